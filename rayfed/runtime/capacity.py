"""Does what a run asks for fit the cluster? Decided before anything starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayfed.config import Resources, Role
from rayfed.errors import CapacityError

Amounts = Mapping[str, float]
"""Ray's resource names (CPU, GPU, memory in bytes) to amounts."""


@dataclass(frozen=True)
class Ask:
    """`count` actors of one role."""

    role: str
    count: int
    each: Amounts


@dataclass(frozen=True)
class Capacity:
    """What was asked, what each node has in all, and the asks that no node has room for."""

    asks: tuple[Ask, ...]
    nodes: tuple[Amounts, ...]
    unplaced: tuple[Ask, ...]

    @property
    def total(self) -> dict[str, float]:
        """The cluster's CPU, GPU and memory."""
        return {name: sum(node.get(name, 0) for node in self.nodes) for name in ("CPU", "GPU", "memory")}


def amounts(role: Role) -> dict[str, float]:
    """A role's annotations in Ray's names, zeros left out."""
    asked = {"CPU": role.num_cpus, "GPU": role.num_gpus, "memory": float(role.memory)}
    return {name: amount for name, amount in asked.items() if amount}


def place(asks: Sequence[Ask], nodes: Sequence[Amounts]) -> list[Ask]:
    """First fit, GPUs first, then by the share of a whole resource; what finds no room comes back with its count."""
    free = [dict(node) for node in nodes]
    unplaced = []

    def size(ask: Ask) -> tuple[float, float]:
        shares = (amount / (sum(node.get(name, 0) for node in nodes) or amount) for name, amount in ask.each.items())
        return ask.each.get("GPU", 0), max(shares, default=0)

    for ask in sorted(asks, key=size, reverse=True):
        left = ask.count
        for node in free:
            while left and all(node.get(name, 0) + 1e-9 >= amount for name, amount in ask.each.items()):
                for name, amount in ask.each.items():
                    node[name] -= amount
                left -= 1
        if left:
            unplaced.append(Ask(ask.role, left, ask.each))
    return unplaced


def plan(resources: Resources, nodes: Sequence[Amounts], useful_hosts: int, evaluator: bool) -> Capacity:
    """How many device hosts run, and whether everything fits.

    `hosts: auto` takes as many as fit beside the other roles, at least one and at most `useful_hosts`.
    """
    others = [Ask("server", 1, amounts(resources.server)), Ask("scheduler", 1, amounts(resources.scheduler))]
    if evaluator:
        others.append(Ask("evaluator", 1, amounts(resources.evaluator)))
    each = amounts(resources.device_host)
    if resources.hosts != "auto":
        count = resources.hosts
    elif each:
        rest = place([*others, Ask("device_host", useful_hosts, each)], nodes)
        count = max(1, useful_hosts - sum(ask.count for ask in rest if ask.role == "device_host"))
    else:
        count = max(1, min(useful_hosts, int(sum(node.get("CPU", 0) for node in nodes))))
    asks = (*others, Ask("device_host", count, each))
    return Capacity(asks, tuple(nodes), tuple(place(asks, nodes)))


def hosts(capacity: Capacity) -> int:
    """The number of device hosts of a plan."""
    return next(ask.count for ask in capacity.asks if ask.role == "device_host")


def refuse(capacity: Capacity) -> None:
    """Raise CapacityError when something can never fit, naming the role, the ask and what there is."""
    for ask in capacity.unplaced:
        raise CapacityError(
            f"resources.{ask.role}: no room for {describe(ask)}; the cluster has {amounts_text(capacity.total)} on "
            f"{len(capacity.nodes)} node(s) and no autoscaler; ask for less or add nodes"
        )


def describe(ask: Ask) -> str:
    """An ask for people: `2 device_host at 0.25 GPU, 1 CPU each`."""
    each = amounts_text(ask.each)
    return f"{ask.count} {ask.role}" + (f" at {each} each" if each else "")


def amounts_text(amounts: Amounts) -> str:
    """Amounts for people: `2 CPU, 0.25 GPU, 1.5 GB memory`; what is zero is left out."""
    texts = (f"{a / 1e9:.3g} GB memory" if name == "memory" else f"{a:.4g} {name}" for name, a in amounts.items() if a)
    return ", ".join(texts)
