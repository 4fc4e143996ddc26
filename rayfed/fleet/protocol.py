"""What an algorithm sees of the devices: share, submit, collect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rayfed.fleet.ledger import Ledger
from rayfed.seeding import SERVER

Arrays = dict[str, Any]
"""A device's state between calls: numpy arrays by name, nothing else."""


@dataclass(frozen=True)
class Handle:
    """A payload shared by the server: sent once, read by many. `ref` is the fleet's own."""

    ref: Any


@dataclass(frozen=True)
class Future:
    """A reply that a device will give; `sources` are the nodes its call's arguments come from."""

    call: int
    device: int
    method: str
    sources: tuple[int, ...]


def sources(args: Sequence[Any]) -> tuple[int, ...]:
    """The node each argument comes from: a Future's device, else the server."""
    return tuple(arg.device if isinstance(arg, Future) else SERVER for arg in args)


@dataclass(frozen=True)
class Missing:
    """Stands in a reply's place: the device was "late" or "lost"."""

    device: int
    reason: str


class QuorumError(Exception):
    """Fewer replies than the quorum arrived: the round is abandoned, whatever the devices that replied have learnt."""


class Fleet(Protocol):
    """Where device halves live. Every call sees the state its device's previous call left."""

    def share(self, payload: Any) -> Handle:
        """Hand a payload over once, for any number of `submit`s to name."""

    def submit(self, device: int, method: str, *args: Any, cost: float = 1.0) -> Future:
        """Have `method` of a device's half run, at once or when a reply is asked for.

        An argument may be a Handle or another call's Future: a Future's reply goes from device to device without
        passing the server. `cost` (any unit) only helps to spread calls over hosts.
        """

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        """The replies in the order asked, a Missing in the place of each that was lost or late.

        `deadline`: seconds to wait, none for as long as it takes. Raises QuorumError when the fraction of replies
        that arrived is below `quorum`. A late device keeps the state it had before the call.
        """

    def settle(self) -> Ledger:
        """Wait for every call not collected and give the ledger since the last `settle`."""

    def changed(self) -> dict[int, Any]:
        """The states (Arrays, or references to them) that calls since the last `changed` left, by device."""

    def restore(self, states: dict[int, Arrays]) -> None:
        """Set devices' states."""
