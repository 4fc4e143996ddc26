"""FSL-GAN on a Ray of a head, which has the server, and two nodes: client b's dies in the second of three rounds.

Prints, as JSON, the node and the resources of each device's host at the start, the participants of each round, and the
run's events in words. Run by test_pinned_hosts.py in a process of its own: argument 1 is a folder for Ray.
"""

import json
import os
import sys
from pathlib import Path
from threading import Timer
from typing import Any

import ray
from ray.cluster_utils import Cluster

from rayfed.cluster.session import RaySession
from rayfed.config import parse
from rayfed.data.setup import prepare

GB = 10**9


def where(host: Any) -> tuple[str, dict[str, float]]:
    """Runs in a host."""
    context = ray.get_runtime_context()
    return context.get_node_id(), context.get_assigned_resources()


def main(folder: str) -> None:
    Path(folder, "ray").mkdir()
    os.environ["RAY_TMPDIR"] = folder  # where Ray notes the cluster's address
    node = {"object_store_memory": GB // 10, "node_ip_address": "127.0.0.1"}
    head = node | {"num_cpus": 0, "memory": 2 * GB, "include_dashboard": False, "temp_dir": f"{folder}/ray"}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=2, memory=GB // 2, **node) for _ in range(2)]
    ray.init(address=cluster.address, logging_level="error", _node_ip_address="127.0.0.1")
    devices = [
        {"name": "strong", "capacity": 1e6, "time_factor": 1.0, "ray_cpus": 1.0, "ray_memory": 2e8},
        {"name": "weak", "capacity": 1e6, "time_factor": 2.0, "ray_cpus": 0.5},
    ]
    clients = [{"name": name, "devices": devices} for name in "ab"]
    config = parse(
        {
            "method": {"name": "fsl-gan", "batch": 4, "iterations": 60, "clients": clients},
            "devices": {"count": 2},
            "model": {"name": "dcgan28", "width": 4},
            "resources": {"hosts": 4, "server": {"memory": GB}, "scheduler": {"memory": GB}},
            "evaluation": {"every": 0},
            "twin": {"network": {"kind": "lan"}},
        }
    )
    session = RaySession(config, prepare(config, 28), lambda capacity, scaling: None)
    session.start(None)
    rounds = [session.round()]
    found = ray.get([session._hosts[host].__ray_call__.remote(where) for host in session.capacity.host_of])
    (other,) = (each for each in nodes if each.node_id == found[-1][0])
    Timer(1.0, cluster.remove_node, [other], {"allow_graceful": False}).start()
    rounds += [session.round(), session.round()]
    participants = [checkpoint.participants for checkpoint in rounds]
    events = [(checkpoint.round, event.sentence()) for checkpoint in rounds for event in checkpoint.events]
    print(json.dumps({"hosts": found, "participants": participants, "events": events}))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
