"""Where devices live: a client's on one node, hosts shared only where there are too few."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rayfed.scheduling.pinning import pinned_hosts


def test_each_device_has_a_host_of_its_own_where_there_are_enough() -> None:
    """Two nodes of three hosts: the client of three fills the first; those of two and one, the second."""
    assert pinned_hosts([2, 3, 1], [7, 7, 7, 9, 9, 9]) == [3, 4, 0, 1, 2, 5]


def test_two_hosts_of_one_node_split_every_client() -> None:
    assert pinned_hosts([4, 4], [0, 0]) == [0, 1, 0, 1, 0, 1, 0, 1]


@given(st.lists(st.integers(1, 8), min_size=1, max_size=20), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_a_clients_devices_share_a_node_and_a_nodes_hosts_are_dealt_evenly(
    clients: list[int], nodes: list[int]
) -> None:
    found = pinned_hosts(clients, nodes)
    assert len(found) == sum(clients)
    for start, end in pairwise(np.cumsum([0, *clients]).tolist()):
        assert len({nodes[host] for host in found[start:end]}) == 1
    for node in set(nodes):
        dealt = [found.count(host) for host, each in enumerate(nodes) if each == node]
        assert max(dealt) - min(dealt) <= 1
