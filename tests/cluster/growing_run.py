"""FeGAN on a cluster that begins with a head alone: six hosts of a quarter of a GPU, on nodes with one GPU each.

One node is killed in the middle, and another takes its place. Prints, as JSON, what was there in each round and how the
weights compare with those of one process. Run by test_elastic.py in a process of its own: argument 1 is a folder.
"""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rayfed.cluster import nodes
from rayfed.cluster.session import RaySession
from rayfed.config import RunConfig, parse
from rayfed.data.setup import Federation, prepare
from rayfed.engine.session import LocalSession
from tests.cluster.fake_nodes import SOON_S, address_of, growing, joined, raylets, show

GPU_NODE = {"resources": {"CPU": 4, "GPU": 1, "memory": 10**9, "object_store_memory": 10**8}, "max_workers": 3}
ROUNDS = 12


def configured(**resources: Any) -> RunConfig:
    return parse(
        {
            "rounds": ROUNDS,
            "method": {"name": "fegan", "fraction": 0.5, "batch": 8, "iterations": 2},
            "devices": {"count": 12},
            "model": {"name": "dcgan28", "width": 4},
            "resources": {"device_host": {"num_cpus": 0.5, "num_gpus": 0.25}, **resources},
            "evaluation": {"every": 0},
        }
    )


def gpu_nodes() -> dict[str, nodes.Node]:
    return {ident: node for ident, node in nodes.nodes().items() if node.kind == "gpu"}


def main(folder: Path) -> None:
    config = configured(hosts=6)
    federation = prepare(config, 28)
    local = LocalSession(config, federation)
    local.start(None)
    with growing(folder, {"gpu": GPU_NODE}) as address:
        with joined(address):
            show(before=len(gpu_nodes()))
            train(folder, config, federation, local)
        with joined(address):
            end = time.monotonic() + SOON_S
            while gpu_nodes() and time.monotonic() < end:
                time.sleep(1)
            show(after=len(gpu_nodes()))


def train(folder: Path, config: RunConfig, federation: Federation, local: LocalSession) -> None:
    said: list[str] = []
    session = RaySession(config, federation, lambda capacity, scaling: show(scaling=scaling), notice=said.append)
    places = Counter(berth.node for berth in session._elastic.here.values())
    show(placed=sorted(places.values()))
    session.start(None)
    same, hosts, others = [], [], []
    for number in range(1, ROUNDS + 1):
        if number == 3:
            next(each for each in raylets(folder) if address_of(each) != "127.0.0.1").kill()
        if number == ROUNDS - 2:
            wait_for_another(session, set(places))
        one, other = session.round(), local.round()
        arrays = one.state.arrays
        same.append(all(arrays[name].tobytes() == each.tobytes() for name, each in other.state.arrays.items()))
        hosts.append(len(session._hosts))
        others.append(len({berth.node for berth in session._elastic.here.values()} - set(places)))
    show(same=same, hosts=hosts, others=others, said=said)
    session.close()


def wait_for_another(session: RaySession, first: set[str]) -> None:
    """Wait until the node that takes the dead one's place has hosts that are ready."""
    end = time.monotonic() + SOON_S
    while not {berth.node for berth in session._elastic.here.values()} - first and time.monotonic() < end:
        session._elastic.look()
        time.sleep(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
