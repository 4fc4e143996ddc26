"""The fleet in Ray actors, each hosting many devices.

A device's state lives in the object store between its calls, not in an actor: any host can run any device, a
killed host loses nothing, and a call that Ray retries elsewhere gives the same reply. Models are put into the
store once per round and read there without a copy.
"""

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, OutOfMemoryError, RayActorError

from rayfed.errors import CapacityError
from rayfed.fleet.ledger import Call, Ledger
from rayfed.fleet.protocol import Arrays, Future, Handle, Missing, QuorumError, sources

LOST = (RayActorError, ObjectLostError, OutOfMemoryError)
"""How Ray says that the host, or what it computed, is gone for good."""


class RayFleet:
    """Spreads calls over DeviceHost actors by outstanding cost."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._hosts = list(hosts)
        self._busy = [0.0] * len(self._hosts)
        self._placed: dict[int, Any] = {}
        self._states: dict[int, Any] = {}
        self._changed: set[int] = set()
        self._open: dict[int, Future] = {}
        self._collected: set[int] = set()
        self._calls = 0

    def share(self, payload: Any) -> Handle:
        return Handle(ray.put(payload))

    def submit(self, device: int, method: str, *args: Any, cost: float = 1.0) -> Future:
        if not self._hosts:
            raise CapacityError("every device host is lost; add nodes to the cluster and resume the run")
        values = [arg.ref if isinstance(arg, Handle | Future) else arg for arg in args]
        before = self._states.get(device, {})
        slot = min(range(len(self._hosts)), key=self._busy.__getitem__)
        self._busy[slot] += cost
        host = self._hosts[slot]
        ref, state, receipt = host.run.remote(device, method, before, *values)
        future = Future(self._calls, device, method, sources(args), ref, state, before, receipt)
        self._calls += 1
        self._placed[future.call] = host
        self._states[device] = state
        self._changed.add(device)
        self._open[future.call] = future
        return future

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        refs = [future.ref for future in futures]
        late = set(ray.wait(refs, num_returns=len(refs), timeout=deadline)[1])
        replies = self._get_all([future for future in futures if future.ref not in late])
        result = [replies.get(future.call, Missing(future.device, "late")) for future in futures]
        arrived = 0
        for future, reply in zip(futures, result, strict=True):
            if isinstance(reply, Missing):
                self._drop(future, lost=reply.reason == "lost")
            else:
                arrived += 1
                self._collected.add(future.call)
        if arrived < quorum * len(futures):
            raise QuorumError(f"{arrived} of {len(futures)} devices replied")
        return result

    def settle(self) -> Ledger:
        ledger = Ledger()
        receipts = self._get_all(list(self._open.values()), "receipt")
        for call, future in self._open.items():
            receipt = receipts[call]
            if isinstance(receipt, Missing):
                self._drop_state(future)
                continue
            collected = receipt.output if call in self._collected else 0
            entry = Call(call, future.device, future.method, receipt.seconds)
            ledger.enter(entry, future.sources, receipt.inputs, collected)
        self._open, self._collected, self._placed = {}, set(), {}
        self._busy = [0.0] * len(self._hosts)
        return ledger

    def changed(self) -> dict[int, Any]:
        changed, self._changed = self._changed, set()
        return {device: self._states[device] for device in sorted(changed)}

    def restore(self, states: dict[int, Arrays]) -> None:
        self._states.update({device: ray.put(state) for device, state in states.items()})

    def _get_all(self, futures: Sequence[Future], what: str = "ref") -> dict[int, Any]:
        """What finished calls gave, by call: one batched get, or one by one when a host was lost among them."""
        refs = [getattr(future, what) for future in futures]
        try:
            return dict(zip((future.call for future in futures), ray.get(refs), strict=True))
        except LOST:
            return {future.call: self._get(future, ref) for future, ref in zip(futures, refs, strict=True)}

    def _get(self, future: Future, ref: Any) -> Any:
        try:
            return ray.get(ref)
        except LOST:
            return Missing(future.device, "lost")

    def _drop(self, future: Future, lost: bool) -> None:
        """Forget a call that gave no reply in time: its device keeps its old state, a dead host its calls."""
        del self._open[future.call]
        self._drop_state(future)
        host = self._placed[future.call]
        if lost and host in self._hosts and not _alive(host):
            self._hosts.remove(host)
            self._busy = [0.0] * len(self._hosts)

    def _drop_state(self, future: Future) -> None:
        self._states[future.device] = future.before
        self._changed.discard(future.device)


def _alive(host: Any) -> bool:
    """Whether a host that failed a call still answers (it may have been restarted elsewhere)."""
    try:
        ray.get(host.ready.remote(), timeout=10)
    except (*LOST, GetTimeoutError):
        return False
    return True
