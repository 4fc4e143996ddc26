"""The node types of a cluster file (Ray's cluster launcher), and how many of which a run takes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rayfed.cluster.capacity import Amounts, Ask, Capacity, describe, place, plan_of
from rayfed.config import RunConfig
from rayfed.errors import CapacityError, UserError


@dataclass(frozen=True)
class NodeType:
    """A type of node: what each has, and how many there are at least and at most."""

    name: str
    resources: Amounts
    least: int
    most: int


@dataclass(frozen=True)
class ClusterFile:
    """What a cluster file says of nodes."""

    types: tuple[NodeType, ...]
    """The head's first."""
    max_workers: int
    """Of all types together, without the head."""


def read_cluster_file(path: Path) -> ClusterFile:
    """The node types of a cluster file. Raises UserError for a file that is none."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"--cluster {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError):
        raise UserError(f"--cluster {path}: not valid YAML") from None
    types = document.get("available_node_types") if isinstance(document, dict) else None
    head = document.get("head_node_type") if types else None
    if not isinstance(types, dict) or head not in types:
        raise UserError(f"--cluster {path}: not a cluster file; it has no available_node_types with its head_node_type")
    limit = document.get("max_workers", 2)
    if not isinstance(limit, int) or not all(isinstance(kind, dict) for kind in types.values()):
        raise UserError(f"--cluster {path}: max_workers must be a number, and each node type a section")
    names = sorted(types, key=lambda name: name != head)
    return ClusterFile(tuple(_type(path, name, types[name], name == head, limit) for name in names), limit)


def _type(path: Path, name: str, kind: Mapping[str, Any], is_head: bool, limit: int) -> NodeType:
    if not isinstance(kind.get("resources"), dict) or not kind["resources"]:
        raise UserError(f"--cluster {path}: node type {name} states no resources, such as {{CPU: 8, GPU: 1}}")
    least, most = int(kind.get("min_workers", 0)), int(kind.get("max_workers", limit))
    extra = 1 if is_head else 0
    return NodeType(name, kind["resources"], least + extra, (0 if is_head else min(most, limit)) + extra)


def nodes_for(config: RunConfig, cluster: ClusterFile) -> tuple[Capacity, Counter[str]]:
    """The plan of a run with as many hosts as these types hold, and the number of nodes of each type that it takes.

    The types with the fewest GPUs, CPUs and bytes are taken first; Ray's autoscaler may choose others that fit as well.
    Raises CapacityError for an actor that no type can hold.
    """
    chosen = [kind for kind in cluster.types for _ in range(kind.least)]
    cheapest = sorted(
        cluster.types, key=lambda kind: [kind.resources.get(name, 0) for name in ("GPU", "CPU", "memory")]
    )
    while True:
        capacity = plan_of(config, [kind.resources for kind in chosen])
        wanted = capacity.of_the_autoscaler
        counts = Counter(kind.name for kind in chosen)
        more = [kind for kind in cheapest if counts[kind.name] < kind.most and wanted and _holds(kind, wanted[0])]
        if not more or len(chosen) > cluster.max_workers:
            break
        chosen.append(more[0])
    for ask in capacity.unplaced:
        raise CapacityError(
            f"resources.{ask.role}: no room for {describe(ask)} on all the nodes that the cluster's file allows; ask "
            "for less or raise max_workers"
        )
    return capacity, counts


def _holds(kind: NodeType, ask: Ask) -> bool:
    return not place([Ask(ask.role, 1, ask.each)], [kind.resources])
