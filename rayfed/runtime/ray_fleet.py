"""The fleet in Ray actors, each hosting many devices.

A device's state lives in the object store between its calls, not in an actor: any host can run any device, a
killed host loses nothing, and a call that Ray repeats elsewhere gives the same reply. Models are put into the
store once per round and read there without a copy. Calls wait until someone asks for a reply and then travel in a
few batches per host, since every object and every actor call costs Ray about a millisecond.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, OutOfMemoryError, RayActorError

from rayfed.errors import CapacityError
from rayfed.fleet.journal import Journal
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Arrays, Future, Handle, Missing, QuorumError, Receipt, sources
from rayfed.runtime.batch import Pick, Slot

LOST = (RayActorError, ObjectLostError, OutOfMemoryError)
"""How Ray says that the host, or what it computed, is gone for good."""

BATCHES = 2
"""Per host and `collect`: few enough to be cheap, enough for replies to arrive while others are computed."""


@dataclass
class _Sent:
    """Where a dispatched call's reply and receipt will be, and what its device goes back to if it is lost."""

    future: Future
    host: Any
    replies: Any
    receipts: Any
    index: int
    before: Any


class RayFleet:
    """Spreads calls over DeviceHost actors by their cost."""

    def __init__(self, hosts: Sequence[Any]) -> None:
        self._hosts = list(hosts)
        self._states: dict[int, Any] = {}
        self._known: dict[int, Any] = {}
        self._queue: list[tuple[Future, tuple[Any, ...], float]] = []
        self._sent: dict[int, _Sent] = {}
        self._late: dict[Any, Any] = {}
        self._costs: dict[Any, float] = {}
        self._receipts: dict[int, Receipt] = {}
        self._done: set[int] = set()
        self._journal = Journal()
        self._calls = 0

    def share(self, payload: Any, since: str | None = None) -> Handle:
        return Handle(self._journal.share(since), ray.put(payload))

    def mark(self, name: str) -> None:
        self._journal.mark(name)

    @contextmanager
    def work(self, method: str, flops: Callable[[], int]) -> Iterator[None]:
        self._dispatch(BATCHES)
        with self._journal.work(method, flops):
            yield

    def submit(self, device: int, method: str, *args: Any, cost: float = 1.0) -> Future:
        self._release()
        waiting = {future.call for future, _, _ in self._queue}
        needed = {arg.call for arg in args if isinstance(arg, Future)}
        if needed & waiting or device in {future.device for future, _, _ in self._queue}:
            self._dispatch(BATCHES)
        future = Future(self._calls, device, method, sources(args))
        self._calls += 1
        self._journal.submit(future)
        self._queue.append((future, args, cost))
        return future

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        self._journal.collect(futures)
        self._dispatch(BATCHES if deadline is None else len(futures))
        batches = list({self._sent[future.call].replies: None for future in futures})
        late = set(ray.wait(batches, num_returns=len(batches), timeout=deadline)[1])
        arrived = self._fetch([batch for batch in batches if batch not in late])
        self._costs = {}
        replies = [self._reply(future, arrived, late) for future in futures]
        self._finish([future.call for future in futures if self._sent[future.call].replies in arrived])
        self._forget(
            [future.call for future, reply in zip(futures, replies, strict=True) if isinstance(reply, Missing)]
        )
        found = sum(not isinstance(reply, Missing) for reply in replies)
        if found < quorum * len(futures):
            raise QuorumError(f"{found} of {len(futures)} devices replied")
        return replies

    def revert(self, futures: Sequence[Future]) -> None:
        for future in sorted(futures, key=lambda future: future.call, reverse=True):
            before = self._sent[future.call].before
            if before is None:
                self._states.pop(future.device, None)
            else:
                self._states[future.device] = before

    def ledger(self) -> Ledger:
        ready = {call: sent for call, sent in self._sent.items() if call not in self._receipts}
        refs = list({sent.receipts: None for sent in ready.values()})
        receipts = self._fetch(ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else [])
        self._take(receipts)
        return self._journal.ledger(self._receipts)

    def settle(self) -> Ledger:
        self._dispatch(BATCHES)
        refs = {sent.receipts: None for call, sent in self._sent.items() if call not in self._receipts}
        self._take(self._fetch(list(refs)))
        self._forget([call for call in self._sent if call not in self._receipts])
        ledger = self._journal.ledger(self._receipts)
        self._sent, self._receipts, self._done = {}, {}, set()
        self._journal.clear()
        return ledger

    def changed(self) -> dict[int, Any]:
        known, self._known = self._known, dict(self._states)
        return {device: state for device, state in sorted(self._states.items()) if state is not known.get(device)}

    def restore(self, states: dict[int, Arrays]) -> None:
        self._states.update({device: ray.put(state) for device, state in states.items()})
        self._known = dict(self._states)

    def _dispatch(self, batches: int) -> None:
        """Send what waits: each call to the host with the least cost so far, each host's calls in batches."""
        if self._queue and not self._hosts:
            raise CapacityError("every device host is lost; add nodes to the cluster and resume the run")
        hosts = self._free_hosts()
        shares: list[list[tuple[Future, tuple[Any, ...]]]] = [[] for _ in hosts]
        costs = [self._costs.get(host, 0.0) for host in hosts]
        for future, args, cost in self._queue:
            slot = costs.index(min(costs))
            costs[slot] += cost
            shares[slot].append((future, args))
        self._queue, self._costs = [], dict(zip(hosts, costs, strict=True))
        for host, share in zip(hosts, shares, strict=True):
            size = -(-len(share) // batches)
            for start in range(0, len(share), max(1, size)):
                self._send(host, share[start : start + size])

    def _free_hosts(self) -> list[Any]:
        """The hosts that do not still work on a late call; all of them when all do."""
        if self._late:
            running = ray.wait(list(self._late), num_returns=len(self._late), timeout=0)[1]
            self._late = {ref: self._late[ref] for ref in running}
        stuck = list(self._late.values())
        return [host for host in self._hosts if host not in stuck] or self._hosts

    def _send(self, host: Any, calls: Sequence[tuple[Future, tuple[Any, ...]]]) -> None:
        """One actor call for a batch; references travel as its own arguments, once each, so that Ray fetches them."""
        references: dict[Any, int] = {}

        def place(value: Any) -> Any:
            if isinstance(value, Handle):
                value = value.ref
            if isinstance(value, Future):
                sent = self._sent[value.call]
                return Pick(references.setdefault(sent.replies, len(references)), sent.index)
            if isinstance(value, ray.ObjectRef):
                return Pick(references.setdefault(value, len(references)))
            return value

        befores = [self._states.get(future.device) for future, _ in calls]
        slots = [
            Slot(future.device, future.method, place({} if before is None else before), [place(arg) for arg in args])
            for (future, args), before in zip(calls, befores, strict=True)
        ]
        run = host.run.options(num_returns=2 + len(slots))
        replies, receipts, *states = run.remote(slots, *references)
        for index, ((future, _), before, state) in enumerate(zip(calls, befores, states, strict=True)):
            self._sent[future.call] = _Sent(future, host, replies, receipts, index, before)
            self._states[future.device] = state

    def _fetch(self, refs: Sequence[Any]) -> dict[Any, Any]:
        """What finished batches gave, the lost left out: one get, or one by one when a host was lost among them."""
        try:
            return dict(zip(refs, ray.get(list(refs)), strict=True))
        except LOST:
            found = {}
            for ref in refs:
                try:
                    found[ref] = ray.get(ref)
                except LOST:
                    continue
            return found

    def _reply(self, future: Future, arrived: dict[Any, Any], late: set[Any]) -> Any:
        sent = self._sent[future.call]
        if sent.replies in arrived:
            return arrived[sent.replies][sent.index]
        if sent.replies in late:
            self._late[sent.replies] = sent.host
            return Missing(future.device, "late")
        if sent.host in self._hosts and not _alive(sent.host):
            self._hosts.remove(sent.host)
        return Missing(future.device, "lost")

    def _finish(self, calls: Sequence[int]) -> None:
        """Keep the receipts of calls that replied and of those they waited for; the rest of them can go soon."""
        done = self._journal.finished(calls)
        self._take(self._fetch(list({self._sent[call].receipts: None for call in sorted(done)})))
        self._done |= done & self._receipts.keys()

    def _release(self) -> None:
        """Forget the replies and earlier states of calls that are over: the object store may drop them."""
        for call in self._done:
            del self._sent[call]
        self._done = set()

    def _take(self, batches: dict[Any, Any]) -> None:
        """Keep the receipts of finished batches."""
        for call, sent in self._sent.items():
            if sent.receipts in batches:
                self._receipts[call] = batches[sent.receipts][sent.index]

    def _forget(self, calls: Sequence[int]) -> None:
        """Drop calls that will never have a reply."""
        self.revert([self._sent[call].future for call in calls])
        for call in calls:
            del self._sent[call]


def _alive(host: Any) -> bool:
    """Whether a host that failed a call still answers (it may have been restarted elsewhere)."""
    try:
        ray.get(host.ready.remote(), timeout=10)
    except (*LOST, GetTimeoutError):
        return False
    return True
