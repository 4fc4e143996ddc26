"""The fleet in this process: for a debugger, for tests, and as the reference that RayFleet must equal."""

from collections.abc import Sequence
from typing import Any

from rayfed.fleet.host import Host, Receipt
from rayfed.fleet.ledger import Call, Ledger
from rayfed.fleet.protocol import Arrays, Future, Handle, sources


class LocalFleet:
    """Runs each call when it is submitted. Nothing is ever lost or late here, so deadlines never strike."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._states: dict[int, Arrays] = {}
        self._changed: set[int] = set()
        self._done: dict[int, tuple[Future, Any, Receipt]] = {}
        self._collected: set[int] = set()
        self._calls = 0

    def share(self, payload: Any) -> Handle:
        return Handle(payload)

    def submit(self, device: int, method: str, *args: Any, cost: float = 1.0) -> Future:
        before = self._states.get(device, {})
        reply, state, receipt = self._host.run(device, method, before, *map(self._value, args))
        future = Future(self._calls, device, method, sources(args))
        self._calls += 1
        self._states[device] = state
        self._changed.add(device)
        self._done[future.call] = future, reply, receipt
        return future

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        self._collected.update(future.call for future in futures)
        return [self._value(future) for future in futures]

    def settle(self) -> Ledger:
        ledger = Ledger()
        for future, _, receipt in self._done.values():
            call = Call(future.call, future.device, future.method, receipt.seconds)
            collected = receipt.output if future.call in self._collected else 0
            ledger.enter(call, future.sources, receipt.inputs, collected)
        self._done, self._collected = {}, set()
        return ledger

    def _value(self, arg: Any) -> Any:
        if isinstance(arg, Future):
            return self._done[arg.call][1]
        return arg.ref if isinstance(arg, Handle) else arg

    def changed(self) -> dict[int, Arrays]:
        changed, self._changed = self._changed, set()
        return {device: self._states[device] for device in sorted(changed)}

    def restore(self, states: dict[int, Arrays]) -> None:
        self._states.update(states)
