"""Does what a run asks for fit the cluster? Decided before anything starts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayfed.config import Resources, Role, RunConfig
from rayfed.errors import CapacityError, counted
from rayfed.methods.spec import method_of
from rayfed.scheduling.pinning import pinned_hosts

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
    host_of: tuple[int, ...] = ()
    """The host of each device, where devices have hosts of their own."""
    hosts: tuple[tuple[Amounts, int], ...] = ()
    """Then also what each host asks for, and the index of the node that it had best be on."""
    least: int = 1
    """The fewest device hosts that the run begins with."""
    most: int = 1
    """The most that it has use for."""

    @property
    def of_the_autoscaler(self) -> tuple[Ask, ...]:
        """What there is no room for on the nodes that are there."""
        count = sum(ask.count for ask in self.asks if ask.role == "device_host")
        more = [Ask(ask.role, self.most - count, ask.each) for ask in self.asks[-1:] if self.most > count]
        return (*self.unplaced, *more)

    @property
    def total(self) -> dict[str, float]:
        """The cluster's CPU, GPU and memory."""
        return {name: sum(node.get(name, 0) for node in self.nodes) for name in ("CPU", "GPU", "memory")}


def amounts(role: Role) -> dict[str, float]:
    """A role's annotations in Ray's names, zeros left out."""
    asked = {"CPU": role.num_cpus, "GPU": role.num_gpus, "memory": float(role.memory)}
    return {name: amount for name, amount in asked.items() if amount}


def place(asks: Sequence[Ask], nodes: Sequence[Amounts]) -> list[Ask]:
    """What finds no room, with its count."""
    return _fit(asks, nodes)[1]


def _fit(asks: Sequence[Ask], nodes: Sequence[Amounts]) -> tuple[dict[str, list[int]], list[Ask]]:
    """First fit, GPUs first, then by the share of a whole resource: the nodes by role, and what finds no room."""
    free = [dict(node) for node in nodes]
    placed: dict[str, list[int]] = {ask.role: [] for ask in asks}
    unplaced = []

    def size(ask: Ask) -> tuple[float, float]:
        shares = (amount / (sum(node.get(name, 0) for node in nodes) or amount) for name, amount in ask.each.items())
        return ask.each.get("GPU", 0), max(shares, default=0)

    for ask in sorted(asks, key=size, reverse=True):
        left = ask.count
        for number, node in enumerate(free):
            while left and all(node.get(name, 0) + 1e-9 >= amount for name, amount in ask.each.items()):
                for name, amount in ask.each.items():
                    node[name] -= amount
                placed[ask.role].append(number)
                left -= 1
        if left:
            unplaced.append(Ask(ask.role, left, ask.each))
    return placed, unplaced


def plan(
    resources: Resources,
    nodes: Sequence[Amounts],
    useful_hosts: int,
    evaluator: bool,
    devices: Sequence[Sequence[Amounts]] = (),
) -> Capacity:
    """How many device hosts run, and whether everything fits.

    Of a range of hosts it takes as many as fit beside the other roles, at least its least; `auto` is from one to
    `useful_hosts`. `devices`: what each client's devices ask for, where they have hosts of their own.
    """
    others = [Ask("server", 1, amounts(resources.server)), Ask("scheduler", 1, amounts(resources.scheduler))]
    if evaluator:
        others.append(Ask("evaluator", 1, amounts(resources.evaluator)))
    each = _largest([device for client in devices for device in client]) or amounts(resources.device_host)
    least, most = resources.host_range(useful_hosts)
    if not each:
        room = int(sum(node.get("CPU", 0) for node in nodes))
    else:
        rest = place([*others, Ask("device_host", most, each)], nodes)
        room = most - sum(ask.count for ask in rest if ask.role == "device_host")
    count = min(max(least, room), most)
    asks = [*others, Ask("device_host", count, each)]
    if not devices:
        return Capacity(tuple(asks), tuple(nodes), tuple(place(asks, nodes)), least=least, most=most)
    placed = _fit(asks, nodes)[0]["device_host"]
    return _with_pinned_hosts(others, nodes, devices, placed if len(placed) == count else [0] * count)


def _with_pinned_hosts(
    others: Sequence[Ask], nodes: Sequence[Amounts], devices: Sequence[Sequence[Amounts]], places: Sequence[int]
) -> Capacity:
    """Hosts on these nodes, of which each asks for as much as its most demanding device."""
    where = pinned_hosts([len(client) for client in devices], places)
    every = [device for client in devices for device in client]
    found = [_largest([every[k] for k, pinned in enumerate(where) if pinned == host]) for host in range(len(places))]
    kinds = Counter(tuple(sorted(each.items())) for each in found)
    asks = (*others, *(Ask("device_host", count, dict(kind)) for kind, count in kinds.items()))
    unplaced = tuple(place(asks, nodes))
    hosts = tuple(zip(found, places, strict=True))
    return Capacity(asks, tuple(nodes), unplaced, tuple(where), hosts, least=len(hosts), most=len(hosts))


def _largest(asked: Sequence[Amounts]) -> dict[str, float]:
    """The most of each resource that any of them asks for."""
    names = {name for each in asked for name in each}
    return {name: max(each.get(name, 0) for each in asked) for name in sorted(names)}


def pinned_devices(config: RunConfig) -> list[list[Amounts]]:
    """What the host of each device of each client asks for, where devices have hosts of their own: the device's own
    annotations over the device host's. Empty with pooled hosts."""
    role = amounts(config.resources.device_host)

    def asked(own: Amounts) -> Amounts:
        return {name: amount for name, amount in (role | dict(own)).items() if amount}

    return [[asked(own) for own in client] for client in method_of(config).topology(config).pinned]


def plan_of(config: RunConfig, nodes: Sequence[Amounts]) -> Capacity:
    """The plan of a run."""
    devices = pinned_devices(config)
    useful = sum(map(len, devices)) if devices else config.participants
    return plan(config.resources, nodes, useful, bool(config.evaluation.every), devices)


def hosts(capacity: Capacity) -> int:
    """The number of device hosts of a plan."""
    return sum(ask.count for ask in capacity.asks if ask.role == "device_host")


def refuse(capacity: Capacity) -> None:
    """Raise CapacityError when something can never fit, naming the role, the ask and what there is."""
    for ask in capacity.unplaced:
        raise CapacityError(
            f"resources.{ask.role}: no room for {describe(ask)}; the cluster has {amounts_text(capacity.total)} on "
            f"{counted(len(capacity.nodes), 'node')} and no autoscaler; ask for less or add nodes"
        )


def refuse_infeasible(asks: Sequence[Ask], nodes: Sequence[Amounts], infeasible: Sequence[Amounts]) -> None:
    """Raise CapacityError for an ask that is `infeasible`, as an autoscaler says, also where all `nodes` are empty."""
    for ask in asks:
        if ask.count and dict(ask.each) in map(dict, infeasible) and place([Ask(ask.role, 1, ask.each)], nodes):
            raise CapacityError(
                f"resources.{ask.role}: no type of node in the cluster's file can hold {describe(ask)}; ask for "
                "less or add a type of node"
            )


def describe(ask: Ask) -> str:
    """An ask for people: `2 device_host at 0.25 GPU, 1 CPU each`."""
    each = amounts_text(ask.each)
    return f"{ask.count} {ask.role}" + (f" at {each} each" if each else "")


def amounts_text(amounts: Amounts) -> str:
    """Amounts for people: `2 CPU, 0.25 GPU, 1.5 GB memory`; what is zero is left out."""
    texts = (f"{a / 1e9:.3g} GB memory" if name == "memory" else f"{a:.4g} {name}" for name, a in amounts.items() if a)
    return ", ".join(texts)
