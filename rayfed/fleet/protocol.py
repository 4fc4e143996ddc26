"""What a method sees of the devices: share, submit, collect."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from rayfed.fleet.codec import Kinds
from rayfed.fleet.ledger import Call, Input, Ledger
from rayfed.fleet.states import StateFile
from rayfed.ids import ClientId, DeviceId
from rayfed.seeding import SERVER


@dataclass(frozen=True)
class Receipt:
    """What a call cost: measured seconds, floating-point operations, bytes by kind of each argument and the reply."""

    seconds: float
    flops: int
    inputs: tuple[Kinds, ...]
    output: Kinds


Arrays = dict[str, Any]
"""A device's state between calls: numpy arrays by name, nothing else."""


@dataclass(frozen=True)
class Handle:
    """A payload shared by the server: sent once, read by many. `ref` is the fleet's own."""

    number: int
    ref: Any
    nbytes: int = 0
    """Of what was shared."""


@dataclass(frozen=True)
class Source:
    """Where an argument comes from: the node that holds it, and the handle or the call whose reply it is."""

    node: int
    handle: int | None = None
    call: int | None = None


@dataclass(frozen=True)
class Future:
    """A reply that a device will give."""

    call: int
    device: DeviceId
    method: str
    sources: tuple[Source, ...]

    def entry(self, receipt: Receipt) -> Call:
        """The ledger's entry for the call, now that its cost is known."""
        pairs = zip(self.sources, receipt.inputs, strict=True)
        inputs = tuple(Input(source.node, kinds, source.handle, source.call) for source, kinds in pairs)
        return Call(self.call, self.device, self.method, receipt.seconds, receipt.flops, inputs, receipt.output)


def sources(args: Sequence[Any]) -> tuple[Source, ...]:
    """The source of each argument: a Future's device, else the server."""

    def source(arg: Any) -> Source:
        if isinstance(arg, Future):
            return Source(arg.device, call=arg.call)
        return Source(SERVER, handle=arg.number if isinstance(arg, Handle) else None)

    return tuple(map(source, args))


@dataclass(frozen=True)
class Missing:
    """Stands in a reply's place: the device was "late" or "lost"."""

    device: DeviceId
    reason: str


class QuorumError(Exception):
    """Fewer replies than the quorum arrived: the round is abandoned, whatever the devices that replied have learnt."""


class Fleet(Protocol):
    """Where device halves live. Every call sees the state its device's previous call left."""

    def share(self, payload: Any, since: str | None = None) -> Handle:
        """Hand a payload over once, for any number of `submit`s to name.

        `since`: the payload has been what it is since that `mark`, and its sending may have begun then.
        """

    def mark(self, name: str) -> None:
        """Remember this point of the server's program, for a later `share`, in this round or the next."""

    def work(self, method: str, flops: Callable[[], int]) -> AbstractContextManager[None]:
        """The server computes in this block; whatever was submitted before runs beside it.

        `flops()` gives the floating-point operations since it was last asked.
        """

    def reject(self, client: ClientId) -> None:
        """Note in the ledger that a reply of this client's did not pass the server's check."""

    def submit(self, device: DeviceId, method: str, *args: Any, cost: float = 1.0, last: bool = False) -> Future:
        """Have `method` of a device's half run, at once or when a reply is asked for.

        An argument may be a Handle or another call's Future: a Future's reply goes from device to device without
        passing the server; it cannot be one whose reply was collected before. `cost` (any unit) only helps to spread
        calls over hosts. `last`: the device is not called again before `settle`, so that the state which the call
        leaves can be put away at once.
        """

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        """The replies in the order asked, a Missing in the place of each that was lost or late.

        `deadline`: seconds to wait, none for as long as it takes. Raises QuorumError when the fraction of replies
        that arrived is below `quorum`. A late device keeps the state it had before the call.
        """

    def stream(self, futures: Sequence[Future], deadline: float | None = None, hold: bool = False) -> Iterator[Any]:
        """`collect` for replies too large to be held together: one after the other, each as soon as it is there.

        To be read to its end. `hold`: they will be asked for `again`.
        """

    def again(self, futures: Sequence[Future]) -> Iterator[Any]:
        """The replies of calls that were just collected, once more, a Missing in the place of each that is lost now."""

    def revert(self, futures: Sequence[Future]) -> None:
        """Leave the devices of these calls, just collected, as they were before them."""

    def ledger(self) -> Ledger:
        """The ledger since the last `settle`, without the calls whose cost is not known yet."""

    def settle(self) -> Ledger:
        """Wait for every call not collected, give the ledger since the last `settle` and begin a new one."""

    def changed(self) -> dict[DeviceId, Any]:
        """The states that calls since the last `changed` left, by device: files, or arrays, or references to arrays.

        To be called after `settle`.
        """

    def abandoned(self) -> list[StateFile]:
        """Files that calls since the last `abandoned` wrote, and that are no device's state: it was late, or reverted.

        To be called after `settle`.
        """

    def restore(self, states: dict[DeviceId, Any]) -> None:
        """Set devices' states: files, or arrays, or the fleet's own references to arrays."""


def enough(replies: Sequence[Any], quorum: float) -> list[Any]:
    """The replies. Raises QuorumError when the fraction of those that arrived is below `quorum`."""
    there = sum(not isinstance(reply, Missing) for reply in replies)
    if there < quorum * len(replies):
        raise QuorumError(f"{there} of {len(replies)} devices replied")
    return list(replies)
