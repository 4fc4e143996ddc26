"""Which host each device lives on, where devices have hosts of their own."""

from collections import Counter
from collections.abc import Sequence


def pinned_hosts(clients: Sequence[int], nodes: Sequence[int]) -> list[int]:
    """The host of each device, for clients with so many devices each and hosts on these nodes.

    A client's devices share a node, and its stages hosts only where there are too few: one node's devices are dealt
    out over its hosts. Clients go, largest first, to the node with the fewest devices per host.
    """
    hosts = {node: [host for host, each in enumerate(nodes) if each == node] for node in nodes}
    held, dealt = Counter[int](), Counter[int]()
    found: list[list[int]] = [[] for _ in clients]
    for client in sorted(range(len(clients)), key=lambda client: -clients[client]):
        node = min(hosts, key=lambda node: (held[node] + clients[client]) / len(hosts[node]))
        held[node] += clients[client]
        for _ in range(clients[client]):
            host = min(hosts[node], key=dealt.__getitem__)
            dealt[host] += 1
            found[client].append(host)
    return [host for each in found for host in each]
