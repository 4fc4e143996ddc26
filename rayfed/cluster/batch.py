"""A batch of calls on its way to a host, and its run there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rayfed.fleet.host import Host
from rayfed.ids import DeviceId


@dataclass(frozen=True)
class Pick:
    """Stands for the batch's reference number `reference`, or for one of the replies that it holds."""

    reference: int
    index: int | None = None


@dataclass(frozen=True)
class Slot:
    """One call; `state` and `args` are values or Picks."""

    device: DeviceId
    method: str
    state: Any
    args: list[Any]
    run: str = ""
    """Whose device it is."""


def run_batch(host: Host, slots: Sequence[Slot], values: Sequence[Any]) -> tuple[Any, ...]:
    """Run the calls in order: (replies, receipts, state of the first, state of the second, ...)."""

    def resolve(value: Any) -> Any:
        if not isinstance(value, Pick):
            return value
        found = values[value.reference]
        return found if value.index is None else found[value.index]

    results = [host.run(slot.device, slot.method, resolve(slot.state), *map(resolve, slot.args)) for slot in slots]
    replies, states, receipts = zip(*results, strict=True)
    return list(replies), list(receipts), *states
