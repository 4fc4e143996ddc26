"""The fleet in this process: for a debugger, for tests, and as the reference that RayFleet must equal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rayfed.fleet.host import Host
from rayfed.fleet.journal import Journal
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Arrays, Future, Handle, Receipt, enough, sources
from rayfed.fleet.states import StateFile, same
from rayfed.ids import ClientId, DeviceId


class LocalFleet:
    """Runs each call when it is submitted. Nothing is ever lost or late here, so deadlines never strike."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._states: dict[DeviceId, Arrays | StateFile] = {}
        self._known: dict[DeviceId, Arrays | StateFile] = {}
        """Of the devices that were called since the last `changed`, the states that they had then."""
        self._replies: dict[int, Any] = {}
        self._receipts: dict[int, Receipt] = {}
        self._before: dict[int, Arrays | StateFile] = {}
        self._journal = Journal()
        self._done: set[int] = set()
        self._calls = 0

    def share(self, payload: Any, since: str | None = None) -> Handle:
        return Handle(self._journal.share(since), payload)

    def mark(self, name: str) -> None:
        self._journal.mark(name)

    def reject(self, client: ClientId) -> None:
        self._journal.reject(client)

    def work(self, method: str, flops: Callable[[], int]) -> AbstractContextManager[None]:
        return self._journal.work(method, flops)

    def submit(self, device: DeviceId, method: str, *args: Any, cost: float = 1.0, last: bool = False) -> Future:
        self._release()
        before = self._states.get(device, {})
        self._known.setdefault(device, before)
        reply, state, receipt = self._host.run(device, method, self._host.read(before), *map(self._value, args))
        future = Future(self._calls, device, method, sources(args))
        self._calls += 1
        self._journal.submit(future)
        self._states[device] = state
        self._replies[future.call], self._receipts[future.call], self._before[future.call] = reply, receipt, before
        return future

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        self._journal.collect(futures)
        self._done |= self._journal.finished(future.call for future in futures)
        return enough([self._value(future) for future in futures], quorum)

    def stream(self, futures: Sequence[Future], deadline: float | None = None, hold: bool = False) -> Iterator[Any]:
        yield from self.collect(futures, deadline)

    def again(self, futures: Sequence[Future]) -> Iterator[Any]:
        yield from map(self._value, futures)

    def revert(self, futures: Sequence[Future]) -> None:
        for future in sorted(futures, key=lambda future: future.call, reverse=True):
            self._states[future.device] = self._before[future.call]

    def ledger(self) -> Ledger:
        return self._journal.ledger(self._receipts)

    def settle(self) -> Ledger:
        ledger = self.ledger()
        self._replies, self._receipts, self._before, self._done = {}, {}, {}, set()
        self._journal.clear()
        for device in self._known:
            state = self._states[device]
            self._states[device] = state if isinstance(state, StateFile) else self._host.write(state)
        return ledger

    def _release(self) -> None:
        """Forget the replies and earlier states of calls that are over."""
        for call in self._done:
            del self._replies[call], self._before[call]
        self._done = set()

    def _value(self, arg: Any) -> Any:
        if isinstance(arg, Future):
            return self._replies[arg.call]
        return arg.ref if isinstance(arg, Handle) else arg

    def changed(self) -> dict[DeviceId, Any]:
        known, self._known = self._known, {}
        states = {device: self._states[device] for device in sorted(known)}
        return {device: state for device, state in states.items() if not same(state, known[device])}

    def abandoned(self) -> list[StateFile]:
        return []

    def restore(self, states: dict[DeviceId, Any]) -> None:
        self._states.update(states)
