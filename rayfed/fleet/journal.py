"""A fleet's own notes of a round, from which its ledger is made once the calls' costs are known."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rayfed.fleet.ledger import Collect, Event, Ledger, Mark, Reject, Share, Work
from rayfed.fleet.protocol import Future, Receipt
from rayfed.ids import ClientId, DeviceId


class Journal:
    """What the server did, in order; a call stands as its Future."""

    def __init__(self) -> None:
        self._entries: list[Event | Future] = []
        self._needs: dict[int, list[int]] = {}
        self._last: dict[DeviceId, int] = {}
        self._handles = 0

    def share(self, since: str | None) -> int:
        """Enter a payload and give its number."""
        self._handles += 1
        self._entries.append(Share(self._handles, since))
        return self._handles

    def mark(self, name: str) -> None:
        """Enter a mark."""
        self._entries.append(Mark(name))

    def reject(self, client: ClientId) -> None:
        """Enter that a reply of this client's did not pass."""
        self._entries.append(Reject(client))

    def submit(self, future: Future) -> None:
        """Enter a call."""
        self._entries.append(future)
        earlier = [self._last[future.device]] if future.device in self._last else []
        self._needs[future.call] = earlier + [source.call for source in future.sources if source.call is not None]
        self._last[future.device] = future.call

    def collect(self, futures: Sequence[Future]) -> None:
        """Enter the wait for these calls' replies."""
        self._entries.append(Collect(tuple(future.call for future in futures)))

    def needed(self, calls: Iterable[int]) -> set[int]:
        """These calls and those that they wait for, without the ones that `finished` gave."""
        found, left = set[int](), list(calls)
        while left:
            call = left.pop()
            if call in self._needs and call not in found:
                found.add(call)
                left += self._needs[call]
        return found

    def finished(self, calls: Iterable[int]) -> set[int]:
        """These calls and those that they waited for, each of which is given once: all have run if these have."""
        found, left = set(), list(calls)
        while left:
            call = left.pop()
            if call in self._needs:
                found.add(call)
                left += self._needs.pop(call)
        return found

    @contextmanager
    def work(self, method: str, flops: Callable[[], int]) -> Iterator[None]:
        """Enter what the server computes in this block; `flops()` gives the operations since it was last asked."""
        start = time.perf_counter()
        yield
        self._entries.append(Work(method, time.perf_counter() - start, flops()))

    def ledger(self, receipts: Mapping[int, Receipt]) -> Ledger:
        """The events so far; calls without a receipt (lost, late) are left out."""

        def events(entry: Event | Future) -> list[Event]:
            if isinstance(entry, Future):
                return [entry.entry(receipts[entry.call])] if entry.call in receipts else []
            if isinstance(entry, Collect):
                return [Collect(tuple(call for call in entry.calls if call in receipts))]
            return [entry]

        return Ledger([event for entry in self._entries for event in events(entry)])

    def clear(self) -> None:
        """Begin the next round."""
        self._entries, self._needs, self._last = [], {}, {}
