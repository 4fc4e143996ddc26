"""The ledger: what the server did in a round, in the order it did it, and what every call cost.

The server is one sequential program: it shares payloads, computes, submits calls and waits for replies. Devices run
beside it, each one call at a time in the order submitted. So the list of events below is enough to tell when
everything would have happened on other hardware; see `rayfed.twin.clock`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rayfed.fleet.codec import Kinds
from rayfed.ids import ClientId, DeviceId
from rayfed.seeding import SERVER

Traffic = Mapping[tuple[str, str], int]
"""Bytes by direction (see `Transfer.direction`) and kind of payload."""


@dataclass(frozen=True)
class Share:
    """The server has a payload for devices; it may be sent from now on, or since the point `since` marks."""

    handle: int
    since: str | None = None


@dataclass(frozen=True)
class Mark:
    """A point in the server's program by name, in this round or an earlier one."""

    name: str


@dataclass(frozen=True)
class Work:
    """The server computes; `seconds` is measured where it ran."""

    method: str
    seconds: float
    flops: int


@dataclass(frozen=True)
class Input:
    """One argument of a call: the node that holds it, its bytes by kind, the handle or the call whose reply it is."""

    source: int
    kinds: Kinds
    handle: int | None = None
    call: int | None = None

    @property
    def nbytes(self) -> int:
        """Of all kinds."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Call:
    """The server submits a call on a device; the call's cost and the bytes of its reply by kind."""

    id: int
    device: DeviceId
    method: str
    seconds: float
    flops: int
    inputs: tuple[Input, ...]
    output: Kinds

    @property
    def nbytes(self) -> int:
        """Of the reply."""
        return sum(self.output.values())


@dataclass(frozen=True)
class Collect:
    """The server waits for these calls' replies; each reply crosses to it."""

    calls: tuple[int, ...]


@dataclass(frozen=True)
class Reject:
    """What this client sent did not pass the server's check."""

    client: ClientId


Event = Share | Mark | Work | Call | Collect | Reject


@dataclass(frozen=True)
class Transfer:
    """`nbytes` of encoded payload from one node to another, as input of a call or as its collected reply."""

    call: int
    source: int
    destination: int
    kinds: Kinds

    @property
    def nbytes(self) -> int:
        """Of all kinds."""
        return sum(self.kinds.values())

    @property
    def direction(self) -> str:
        """`down` from the server, `up` to it, or `across` from device to device."""
        if self.source == SERVER:
            return "down"
        return "up" if self.destination == SERVER else "across"


@dataclass
class Ledger:
    """The events of a round in program order."""

    events: list[Event] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        """The calls that ran, in the order submitted."""
        return [event for event in self.events if isinstance(event, Call)]

    @property
    def transfers(self) -> list[Transfer]:
        """What crossed a link: what stays on one node is left out."""
        collected = {call for event in self.events if isinstance(event, Collect) for call in event.calls}
        moves = []
        for call in self.calls:
            moves += [Transfer(call.id, each.source, call.device, each.kinds) for each in call.inputs]
            if call.id in collected:
                moves.append(Transfer(call.id, call.device, SERVER, call.output))
        return [move for move in moves if move.nbytes and move.source != move.destination]

    @property
    def bytes_down(self) -> int:
        """Server to devices."""
        return sum(t.nbytes for t in self.transfers if t.direction == "down")

    @property
    def bytes_up(self) -> int:
        """Devices to server."""
        return sum(t.nbytes for t in self.transfers if t.direction == "up")

    @property
    def bytes_across(self) -> int:
        """Device to device."""
        return sum(t.nbytes for t in self.transfers if t.direction == "across")

    @property
    def bytes_by_kind(self) -> Counter[str]:
        """What crossed any link, by kind of payload."""
        return _sum(t.kinds for t in self.transfers)

    @property
    def traffic(self) -> Traffic:
        """What crossed any link, in bytes by direction and kind of payload."""
        total: Counter[tuple[str, str]] = Counter()
        for t in self.transfers:
            total.update({(t.direction, kind): nbytes for kind, nbytes in t.kinds.items()})
        return dict(total)

    @property
    def rejected(self) -> set[ClientId]:
        """The clients of whose replies at least one did not pass the server's check."""
        return {event.client for event in self.events if isinstance(event, Reject)}

    def bytes_by_device(self) -> Counter[int]:
        """Bytes over each device's link, both ways."""
        total: Counter[int] = Counter()
        for t in self.transfers:
            for node in {t.source, t.destination} - {SERVER}:
                total[node] += t.nbytes
        return total


def _sum(every: Iterable[Kinds]) -> Counter[str]:
    total: Counter[str] = Counter()
    for kinds in every:
        total.update(kinds)
    return total
