"""A cluster of one type of node: an ask that none can hold is refused; then one node announces its end.

Prints, as JSON, the refusal, and of each round how the weights compare with those of one process and how many hosts are
on the node that is to end. Run by test_elastic.py in a process of its own: argument 1 is a folder.
"""

import subprocess
import sys
import time
from pathlib import Path

from rayfed.cluster import nodes
from rayfed.cluster.session import RaySession
from rayfed.config import RunConfig, with_overrides
from rayfed.data.setup import Federation, prepare
from rayfed.engine.session import LocalSession
from rayfed.errors import CapacityError
from tests.cluster.fake_nodes import SOON_S, growing, joined, show
from tests.cluster.growing_run import GPU_NODE, configured

ROUNDS = 6


def main(folder: Path) -> None:
    config = configured(hosts={"min": 1, "max": 2}, device_host={"num_cpus": 1, "num_gpus": 1})
    federation = prepare(config, 28)
    with growing(folder, {"gpu": GPU_NODE | {"max_workers": 2}}) as address, joined(address):
        refused(config, federation)
        drained(address, config, federation)


def refused(config: RunConfig, federation: Federation) -> None:
    greedy = with_overrides(config, ["resources.device_host.num_gpus=4"])
    begin = time.monotonic()
    try:
        RaySession(greedy, federation, lambda capacity, scaling: None)
    except CapacityError as error:
        show(refused=str(error), refused_after=time.monotonic() - begin)


def drained(address: str, config: RunConfig, federation: Federation) -> None:
    local = LocalSession(config, federation)
    remote = RaySession(config, federation, lambda capacity, scaling: None)
    remote._elastic.wait(2, time.monotonic() + SOON_S)
    for session in (local, remote):
        session.start(None)
    victim = list(remote._elastic.here.values())[-1].node
    same, on_draining, hosts = [], [], []
    for number in range(1, ROUNDS + 1):
        if number == 3:
            drain(address, victim)
            time.sleep(2)
        one, other = remote.round(), local.round()
        arrays = one.state.arrays
        same.append(all(arrays[name].tobytes() == each.tobytes() for name, each in other.state.arrays.items()))
        on_draining.append(sum(berth.node == victim for berth in remote._elastic.here.values()))
        hosts.append(len(remote._hosts))
    show(same=same, on_draining=on_draining, hosts=hosts)
    remote.close()


def drain(address: str, node: str) -> None:
    """As a cloud's agent does when a spot node is to be taken away in ten minutes."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", f"--address={address}", f"--node-id={node}"]
    command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=600"]
    subprocess.run(command, check=True, capture_output=True)
    end = time.monotonic() + SOON_S
    while not nodes.nodes()[node].draining and time.monotonic() < end:
        time.sleep(0.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
