"""A fleet in which the twin says who is late: a reply that misses the simulated deadline does not count."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Fleet, Future, Missing, enough


class Punctual:
    """Any fleet, with `late(ledger)` asked after every exchange for the calls whose replies came too late.

    A late device keeps the state it had before the call, as on a real network.
    """

    def __init__(self, fleet: Fleet, late: Callable[[Ledger], set[int]]) -> None:
        self._fleet = fleet
        self._late = late

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        """See `rayfed.fleet.protocol.Fleet.collect`."""
        return enough(list(self.stream(futures, deadline)), quorum)

    def stream(self, futures: Sequence[Future], deadline: float | None = None, hold: bool = False) -> Iterator[Any]:
        """See `rayfed.fleet.protocol.Fleet.stream`; who is late is known when all are there."""
        replies = zip(futures, self._fleet.stream(futures, deadline, hold=True), strict=True)
        missing = {future.call: reply for future, reply in replies if isinstance(reply, Missing)}
        late = self._late(self._fleet.ledger())
        self._fleet.revert([future for future in futures if future.call in late])
        missing |= {future.call: Missing(future.device, "late") for future in futures if future.call in late}
        there = self._fleet.again([future for future in futures if future.call not in missing])
        for future in futures:
            yield missing[future.call] if future.call in missing else next(there)
