"""The fleet in Ray actors, each hosting many devices.

A device's state lives in the object store between its calls, not in an actor: any host can run any device, a killed
host loses nothing, and a call that Ray repeats elsewhere gives the same reply. Which host runs which device is
`rayfed.cluster.hosts`. Models are put into the store once per round and read there without a copy. Calls wait until
someone asks for a reply and then travel in a few batches per host, since every object and every actor call costs Ray
about a millisecond.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from rayfed.cluster.batch import Pick, Slot
from rayfed.cluster.hosts import LOST, Hosts
from rayfed.fleet.journal import Journal
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Arrays, Future, Handle, Missing, QuorumError, Receipt, sources
from rayfed.ids import DeviceId

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
    """Sends calls to DeviceHost actors."""

    def __init__(self, hosts: Hosts, run: str = "") -> None:
        """`run`: whose devices these are, for hosts that serve one run after the other."""
        self._hosts = hosts
        self._run = run
        self._states: dict[DeviceId, Any] = {}
        self._known: dict[DeviceId, Any] = {}
        self._queue: list[tuple[Future, tuple[Any, ...], float]] = []
        self._sent: dict[int, _Sent] = {}
        self._missing: dict[int, str] = {}
        """Why a call has no reply: it was late, or lost, or needed what such a call was to give."""
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

    def submit(self, device: DeviceId, method: str, *args: Any, cost: float = 1.0) -> Future:
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
        batches = list({self._sent[future.call].replies: None for future in futures if future.call in self._sent})
        late = set(ray.wait(batches, num_returns=len(batches), timeout=deadline)[1]) if batches else set()
        arrived, errors = self._fetch([batch for batch in batches if batch not in late])
        self._hosts.collected()
        replies = [self._reply(future, arrived, errors) for future in futures]
        pairs = list(zip(futures, replies, strict=True))
        there = [future.call for future, reply in pairs if not isinstance(reply, Missing)]
        self._finish(there)
        self._abandon({future.call: reply.reason for future, reply in pairs if isinstance(reply, Missing)})
        if len(there) < quorum * len(futures):
            raise QuorumError(f"{len(there)} of {len(futures)} devices replied")
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
        self._take(ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else [])
        return self._journal.ledger(self._receipts)

    def settle(self) -> Ledger:
        self._dispatch(BATCHES)
        refs = {sent.receipts: None for call, sent in self._sent.items() if call not in self._receipts}
        self._take(list(refs))
        self._forget([call for call in self._sent if call not in self._receipts])
        ledger = self._journal.ledger(self._receipts)
        self._sent, self._receipts, self._done, self._missing = {}, {}, set(), {}
        for device in self._hosts.settled():
            if device in self._states and self._fetch([self._states[device]])[1]:
                del self._states[device]
        self._journal.clear()
        return ledger

    def changed(self) -> dict[DeviceId, Any]:
        known, self._known = self._known, dict(self._states)
        return {device: state for device, state in sorted(self._states.items()) if state is not known.get(device)}

    def restore(self, states: dict[DeviceId, Arrays]) -> None:
        self._states.update({device: ray.put(state) for device, state in states.items()})
        self._known = dict(self._states)

    def _dispatch(self, batches: int) -> None:
        """Send what waits, each host's calls in batches; what no host can run, or begin, is lost."""
        shares: dict[Any, list[tuple[Future, tuple[Any, ...]]]] = {}
        for future, args, cost in self._queue:
            needs = [arg.call for arg in args if isinstance(arg, Future)]
            host = self._hosts.choose(future.device, cost)
            if host is None or any(call in self._missing for call in needs):
                self._missing[future.call] = "lost"
            else:
                shares.setdefault(host, []).append((future, args))
        self._queue = []
        for host, share in shares.items():
            size = -(-len(share) // batches)
            for start in range(0, len(share), size):
                self._send(host, share[start : start + size])

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
            Slot(
                future.device,
                future.method,
                place({} if before is None else before),
                [place(arg) for arg in args],
                self._run,
            )
            for (future, args), before in zip(calls, befores, strict=True)
        ]
        run = host.run.options(num_returns=2 + len(slots))
        replies, receipts, *states = run.remote(slots, *references)
        for index, ((future, _), before, state) in enumerate(zip(calls, befores, states, strict=True)):
            self._sent[future.call] = _Sent(future, host, replies, receipts, index, before)
            self._states[future.device] = state

    def _fetch(self, refs: Sequence[Any]) -> tuple[dict[Any, Any], dict[Any, Exception]]:
        """What finished batches gave, and the errors of the lost: one get, or one by one when a host was lost."""
        try:
            return dict(zip(refs, ray.get(list(refs)), strict=True)), {}
        except LOST:
            found: dict[Any, Any] = {}
            errors: dict[Any, Exception] = {}
            for ref in refs:
                try:
                    found[ref] = ray.get(ref)
                except LOST as error:
                    errors[ref] = error
            return found, errors

    def _reply(self, future: Future, arrived: dict[Any, Any], errors: dict[Any, Exception]) -> Any:
        if future.call in self._missing:
            return Missing(future.device, self._missing[future.call])
        sent = self._sent[future.call]
        if sent.replies in arrived:
            return arrived[sent.replies][sent.index]
        if sent.replies in errors:
            self._hosts.lost(sent.host, errors[sent.replies])
            return Missing(future.device, "lost")
        self._hosts.late(sent.replies, sent.host)
        return Missing(future.device, "late")

    def _abandon(self, calls: Mapping[int, str]) -> None:
        """Give up on calls that have no reply, for these reasons, and on what they wait for and nobody has finished."""
        self._missing |= calls
        needed = [call for call in self._journal.needed(calls) if call in self._sent and call not in self._receipts]
        refs = list({self._sent[call].receipts: None for call in needed})
        self._take(ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else [])
        self._forget([call for call in needed if call in calls or call not in self._receipts])

    def _finish(self, calls: Sequence[int]) -> None:
        """Keep the receipts of calls that replied and of those they waited for; the rest of them can go soon."""
        done = self._journal.finished(calls)
        self._take(list({self._sent[call].receipts: None for call in sorted(done) if call in self._sent}))
        self._done |= done & self._receipts.keys()

    def _release(self) -> None:
        """Forget the replies and earlier states of calls that are over: the object store may drop them."""
        for call in self._done:
            del self._sent[call]
        self._done = set()

    def _take(self, refs: Sequence[Any]) -> None:
        """Keep the receipts of finished batches."""
        batches = self._fetch(refs)[0]
        for call, sent in self._sent.items():
            if sent.receipts in batches:
                self._receipts[call] = batches[sent.receipts][sent.index]

    def _forget(self, calls: Sequence[int]) -> None:
        """Drop calls that will never have a reply."""
        self.revert([self._sent[call].future for call in calls])
        for call in calls:
            del self._sent[call]
            self._receipts.pop(call, None)
            self._missing.setdefault(call, "lost")
