"""A fleet in which the twin says who is late: a reply that misses the simulated deadline does not count."""

from collections.abc import Callable, Sequence
from typing import Any

from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Fleet, Future, Missing, QuorumError


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
        replies = self._fleet.collect(futures, deadline)
        late = self._late(self._fleet.ledger())
        self._fleet.revert([future for future in futures if future.call in late])
        replies = [
            Missing(future.device, "late") if future.call in late else reply
            for future, reply in zip(futures, replies, strict=True)
        ]
        found = sum(not isinstance(reply, Missing) for reply in replies)
        if found < quorum * len(futures):
            raise QuorumError(f"{found} of {len(futures)} devices replied")
        return replies
