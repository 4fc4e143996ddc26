"""The ledger: every call that ran on a device and every payload that crossed a link, as plain events."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rayfed.seeding import SERVER


@dataclass(frozen=True)
class Call:
    """One method run on one node; `seconds` is measured on the host that ran it."""

    id: int
    device: int
    method: str
    seconds: float


@dataclass(frozen=True)
class Transfer:
    """`nbytes` of encoded payload from one node to another, as input of a call or as its collected reply."""

    call: int
    source: int
    destination: int
    nbytes: int


@dataclass
class Ledger:
    """Events in the order the server asked for them; what stays on one node crosses no link and is not entered."""

    calls: list[Call] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)

    def enter(self, call: Call, sources: Sequence[int], inputs: Sequence[int], collected: int) -> None:
        """Enter a call: argument i came from node `sources[i]` with `inputs[i]` bytes, `collected` went up."""
        self.calls.append(call)
        for source, nbytes in zip(sources, inputs, strict=True):
            self._move(call.id, source, call.device, nbytes)
        self._move(call.id, call.device, SERVER, collected)

    def _move(self, call: int, source: int, destination: int, nbytes: int) -> None:
        if nbytes and source != destination:
            self.transfers.append(Transfer(call, source, destination, nbytes))

    @property
    def bytes_down(self) -> int:
        """Server to devices."""
        return sum(t.nbytes for t in self.transfers if t.source == SERVER)

    @property
    def bytes_up(self) -> int:
        """Devices to server."""
        return sum(t.nbytes for t in self.transfers if t.destination == SERVER)

    @property
    def bytes_across(self) -> int:
        """Device to device."""
        return sum(t.nbytes for t in self.transfers if SERVER not in (t.source, t.destination))

    def bytes_by_device(self) -> Counter[int]:
        """Bytes over each device's link, both ways."""
        total: Counter[int] = Counter()
        for t in self.transfers:
            for node in {t.source, t.destination} - {SERVER}:
                total[node] += t.nbytes
        return total
