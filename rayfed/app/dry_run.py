"""What a run would ask of a cluster and what a round of it moves and computes, without running it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayfed.app.preparation import prepared
from rayfed.app.rehearsal import rehearse_rounds
from rayfed.cluster import capacity, nodes
from rayfed.cluster.capacity import Capacity
from rayfed.cluster.connection import connected
from rayfed.cluster.node_types import nodes_for, read_cluster_file
from rayfed.config import RunConfig
from rayfed.data.setup import Federation
from rayfed.methods.spec import Phase, method_of

HERE = "started by hand"
"""What nodes are called that are of no type in a cluster file."""


def dry_run(config: RunConfig, notice: Callable[[str], None], cluster_file: Path | None = None) -> dict[str, Any]:
    """The plan of a run as a document.

    `actors`: a row of role, count and resources each. `hosts`: the fewest and the most. `nodes`: type -> count, those
    of `cluster_file` that the run would take, or those that are there now. `autoscaler`: what would be asked of it.
    `phases`: for each kind of rounds its `name` (empty if there is but one), how many `rounds` there are, and of one,
    rehearsed on the twin, participants, images, bytes, operations and simulated seconds. `rounds`: how many there
    are in all. Raises UserError and CapacityError as a run would.
    """
    cluster = read_cluster_file(cluster_file) if cluster_file else None
    federation = prepared(config, notice)
    found, there, scaling = (*nodes_for(config, cluster), False) if cluster else _on_the_cluster(config)
    return {
        "actors": [_row(ask) for ask in found.asks],
        "hosts": {"least": found.least, "most": found.most},
        "nodes": dict(there),
        "autoscaler": [_row(ask) for ask in found.of_the_autoscaler] if scaling else [],
        "phases": [_phase(each, federation) for each in method_of(config).phases(config)],
        "rounds": config.rounds,
    }


SHOWN = ("participants", "images", "bytes_up", "bytes_down", "bytes_across", "flops_devices", "sim_seconds")
"""Of a round's metrics; see docs/metrics.md."""


def _phase(phase: Phase, federation: Federation) -> dict[str, Any]:
    (metrics,) = rehearse_rounds(phase.config, federation, 1)
    shown = {name: metrics[name] for name in SHOWN if name in metrics}
    return {"name": phase.name, "rounds": phase.rounds, **shown}


def _row(ask: capacity.Ask) -> dict[str, Any]:
    return {"role": ask.role, "count": ask.count, "each": dict(ask.each)}


def _on_the_cluster(config: RunConfig) -> tuple[Capacity, Mapping[str, int], bool]:
    """The plan on the nodes that are there, which are counted by type, and whether an autoscaler adds some."""
    with connected(config.ray):
        found = list(nodes.nodes().values())
    scaling = any(node.kind for node in found)
    plan = capacity.plan_of(config, [node.resources for node in found])
    if not scaling:
        capacity.refuse(plan)
    counts: dict[str, int] = {}
    for node in found:
        counts[node.kind or HERE] = counts.get(node.kind or HERE, 0) + 1
    return plan, counts, scaling
