"""The cluster's nodes, and what its autoscaler says, as Ray's head tells it."""

import socket
from dataclasses import dataclass

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]

from rayfed import rayjob
from rayfed.cluster.capacity import Amounts

NODE_GROUP = "ray.io/node-group"
"""The label with a node's type in the cluster file; nodes that were started by hand have none."""
TIMEOUT_S = 30


@dataclass(frozen=True)
class Node:
    """A living node."""

    resources: Amounts
    """All that it has."""
    kind: str | None
    """Its type in the cluster file. None means that it was started by hand."""
    draining: bool
    """Whether it has announced its end, as spot nodes do."""


def nodes() -> dict[str, Node]:
    """The living nodes by Ray's node id; what a submitted job's driver holds of its own is not counted."""
    status = get_cluster_status(_address(), timeout=TIMEOUT_S)
    here, held = ray.get_runtime_context().get_node_id(), rayjob.driver_cpus()
    found = {}
    for node in (*status.active_nodes, *status.idle_nodes):
        assert node.node_id is not None
        kind = (node.labels or {}).get(NODE_GROUP)
        resources = node.total_resources()
        if node.node_id == here and held:
            resources["CPU"] = resources.get("CPU", 0) - held
        found[node.node_id] = Node(resources, kind, node.node_status == "DRAINING")
    return found


def totals() -> list[Amounts]:
    """All that each living node has."""
    return [node.resources for node in nodes().values()]


def one_machine() -> bool:
    """Whether the whole cluster is this machine, now and later, so that its processes reach this one's files: a head
    that listens on the loopback interface alone is joined by no other machine."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    names, addresses = ({node[f"NodeManager{key}"] for node in alive} for key in ("Hostname", "Address"))
    return names == {socket.gethostname()} and len(addresses) == 1 and _address().startswith("127.")


def free() -> Amounts:
    """What of the cluster's resources nobody has taken."""
    amounts: Amounts = ray.available_resources()
    return amounts


def autoscaling() -> bool:
    """Whether an autoscaler can add nodes: the cluster's nodes then have types."""
    return any(node.kind for node in nodes().values())


def infeasible() -> list[Amounts]:
    """What is waited for and the autoscaler finds no place for, on the nodes that there are or could be.

    It may only be that others have taken all: what a node could hold if it were empty may have a place later.
    """
    reply = GetClusterStatusReply()
    reply.ParseFromString(GcsClient(_address()).get_cluster_status(timeout_s=TIMEOUT_S))
    state = reply.autoscaling_state
    asks = list(state.infeasible_resource_requests)
    for group in state.infeasible_gang_resource_requests:
        asks += group.requests
        asks += [ask for selector in group.bundle_selectors for ask in selector.resource_requests]
    return [dict(ask.resources_bundle) for ask in asks]


def _address() -> str:
    address: str = ray.get_runtime_context().gcs_address
    return address
