"""The fleet in Ray actors, each hosting many devices.

A device's state lies in a file between its turns (`rayfed.fleet.states`), and within a round, or without a folder that
all hosts reach, in the object store: any host can run any device, and a round in which a host dies can be computed
again on the others. Which host runs which device is `rayfed.cluster.hosts`. Models are put into the
store once per round and read there without a copy. Calls wait until someone asks for a reply and then travel in a few
batches per host, since every object and every actor call costs Ray about a millisecond.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray

from rayfed.cluster.batch import Pick, Slot, in_batches
from rayfed.cluster.hosts import Hosts
from rayfed.cluster.objects import fetch
from rayfed.cluster.states import DeviceStates
from rayfed.fleet.codec import payload_kinds
from rayfed.fleet.journal import Journal
from rayfed.fleet.ledger import Ledger
from rayfed.fleet.protocol import Future, Handle, Missing, Receipt, enough, sources
from rayfed.fleet.states import StateFile
from rayfed.ids import ClientId, DeviceId

BATCHES = 2
"""Per host and `collect`: few enough to be cheap, enough for replies to arrive while others are computed."""
HELD_BYTES = 128 * 2**20
"""Of replies that were streamed and may be asked for again; what is more is computed again then."""


@dataclass
class _Sent:
    """Where a dispatched call's reply and receipt will be, and what its device goes back to if it is lost."""

    call: "_Waiting"
    host: Any
    replies: Any
    """Of the batch; None once they have been read and let go."""
    receipts: Any
    index: int
    before: Any


@dataclass(frozen=True)
class _Waiting:
    """A call that is submitted and not dispatched."""

    future: Future
    args: tuple[Any, ...]
    cost: float
    last: bool

    @property
    def nbytes(self) -> int:
        """Of what it is given of the server's, which its reply is taken to have too."""
        return max((arg.nbytes for arg in self.args if isinstance(arg, Handle)), default=0)


class RayFleet:
    """Sends calls to DeviceHost actors."""

    def __init__(self, hosts: Hosts, run: str = "", files: bool = False) -> None:
        """`run`: whose devices these are, for hosts that serve one run after the other; `files`: whether the hosts
        have a state folder."""
        self._hosts = hosts
        self._run = run
        self._states = DeviceStates(hosts, run, files)
        self._queue: list[_Waiting] = []
        self._sent: dict[int, _Sent] = {}
        self._missing: dict[int, str] = {}
        """Why a call has no reply: it was late, or lost, or needed what such a call was to give."""
        self._receipts: dict[int, Receipt] = {}
        self._done: set[int] = set()
        self._journal = Journal()
        self._calls = 0

    def share(self, payload: Any, since: str | None = None) -> Handle:
        return Handle(self._journal.share(since), ray.put(payload), sum(payload_kinds(payload).values()))

    def mark(self, name: str) -> None:
        self._journal.mark(name)

    def reject(self, client: ClientId) -> None:
        self._journal.reject(client)

    @contextmanager
    def work(self, method: str, flops: Callable[[], int]) -> Iterator[None]:
        self._dispatch(BATCHES)
        with self._journal.work(method, flops):
            yield

    def submit(self, device: DeviceId, method: str, *args: Any, cost: float = 1.0, last: bool = False) -> Future:
        self._release()
        waiting = {each.future.call for each in self._queue}
        needed = {arg.call for arg in args if isinstance(arg, Future)}
        if needed & waiting or device in {each.future.device for each in self._queue}:
            self._dispatch(BATCHES)
        future = Future(self._calls, device, method, sources(args))
        self._calls += 1
        self._journal.submit(future)
        self._queue.append(_Waiting(future, args, cost, last))
        return future

    def collect(self, futures: Sequence[Future], deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        return enough(list(self.stream(futures, deadline, hold=True)), quorum)

    def stream(self, futures: Sequence[Future], deadline: float | None = None, hold: bool = False) -> Iterator[Any]:
        self._journal.collect(futures)
        self._dispatch(BATCHES if deadline is None else len(futures))
        end = None if deadline is None else time.monotonic() + deadline
        there, gone = list[int](), dict[int, str]()
        for future, reply in zip(futures, self._replies(futures, end, hold), strict=True):
            if isinstance(reply, Missing):
                gone[future.call] = reply.reason
            else:
                there.append(future.call)
            yield reply
        self._hosts.collected()
        self._finish(there)
        self._abandon(gone)

    def again(self, futures: Sequence[Future]) -> Iterator[Any]:
        """A call whose reply was let go runs once more, from the state that its device had before it."""
        gone = [self._sent[future.call] for future in futures if self._sent[future.call].replies is None]
        for host, share in self._shares([sent.call for sent in gone]).items():
            for batch in in_batches(share, BATCHES):
                replies, *_ = self._run_on(host, batch, [self._sent[each.future.call].before for each in batch])
                for index, each in enumerate(batch):
                    self._sent[each.future.call] = replace(self._sent[each.future.call], replies=replies, index=index)
        yield from self._replies(futures, None, hold=True)
        self._hosts.collected()

    def revert(self, futures: Sequence[Future]) -> None:
        for future in sorted(futures, key=lambda future: future.call, reverse=True):
            self._states.put_back(future.device, self._sent[future.call].before)

    def ledger(self) -> Ledger:
        ready = {call: sent for call, sent in self._sent.items() if call not in self._receipts}
        refs = list({sent.receipts: None for sent in ready.values()})
        self._take(ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else [])
        return self._journal.ledger(self._receipts)

    def settle(self) -> Ledger:
        self._dispatch(BATCHES)
        refs = {sent.receipts: None for call, sent in self._sent.items() if call not in self._receipts}
        errors = self._take(list(refs))
        for sent in self._sent.values():
            if sent.receipts in errors:
                self._hosts.lost(sent.host, errors[sent.receipts])
        self._forget([call for call in self._sent if call not in self._receipts])
        ledger = self._journal.ledger(self._receipts)
        self._sent, self._receipts, self._done, self._missing = {}, {}, set(), {}
        self._states.settle()
        self._journal.clear()
        return ledger

    def changed(self) -> dict[DeviceId, Any]:
        return self._states.changed()

    def abandoned(self) -> list[StateFile]:
        return self._states.abandoned()

    def restore(self, states: dict[DeviceId, Any]) -> None:
        self._states.restore(states)

    def _dispatch(self, batches: int) -> None:
        """Send what waits, each host's calls in batches."""
        queue, self._queue = self._queue, []
        for host, share in self._shares(queue).items():
            for batch in in_batches(share, batches):
                self._send(host, batch)

    def _shares(self, calls: Sequence[_Waiting]) -> dict[Any, list[_Waiting]]:
        """The calls by the host that is to run them; what no host can run, or begin, is lost."""
        shares: dict[Any, list[_Waiting]] = {}
        for each in calls:
            needs = [arg.call for arg in each.args if isinstance(arg, Future)]
            host = self._hosts.choose(each.future.device, each.cost)
            if host is None or any(call in self._missing for call in needs):
                self._missing[each.future.call] = "lost"
            else:
                shares.setdefault(host, []).append(each)
        return shares

    def _send(self, host: Any, calls: Sequence[_Waiting]) -> None:
        befores = [self._states.of(each.future.device) for each in calls]
        replies, receipts, *states = self._run_on(host, calls, befores)
        for index, (each, before, state) in enumerate(zip(calls, befores, states, strict=True)):
            self._sent[each.future.call] = _Sent(each, host, replies, receipts, index, before)
            self._states.left(each.future.device, state, each.last)

    def _run_on(self, host: Any, calls: Sequence[_Waiting], befores: Sequence[Any]) -> Any:
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

        slots = [
            Slot(
                each.future.device,
                each.future.method,
                place({} if before is None else before),
                [place(arg) for arg in each.args],
                self._run,
                each.last,
            )
            for each, before in zip(calls, befores, strict=True)
        ]
        return host.run.options(num_returns=2 + len(slots)).remote(slots, *references)

    def _replies(self, futures: Sequence[Future], end: float | None, hold: bool) -> Iterator[Any]:
        """The replies in order. Batches that are read to their end are let go, unless `hold` or there is room."""
        sent = {future.call: self._sent[future.call] for future in futures if future.call in self._sent}
        left = Counter(each.replies for each in sent.values())
        open_batches: dict[Any, Any] = {}
        room = HELD_BYTES
        for future in futures:
            yield self._reply(future, end, open_batches)
            if future.call not in sent:
                continue
            batch = sent[future.call].replies
            left[batch] -= 1
            if not left[batch]:
                del left[batch]
                open_batches.pop(batch, None)
                read = [each for each in sent.values() if each.replies is batch]
                room -= sum(each.call.nbytes for each in read)
                if not hold and room < 0:
                    for each in read:
                        each.replies = None

    def _reply(self, future: Future, end: float | None, open_batches: dict[Any, Any]) -> Any:
        if future.call in self._missing:
            return Missing(future.device, self._missing[future.call])
        sent = self._sent[future.call]
        if sent.replies not in open_batches:
            timeout = None if end is None else max(0.0, end - time.monotonic())
            if not ray.wait([sent.replies], timeout=timeout, fetch_local=False)[0]:
                self._hosts.late(sent.replies, sent.host)
                return Missing(future.device, "late")
            found, errors = fetch([sent.replies])
            open_batches[sent.replies] = found.get(sent.replies)
            if errors:
                self._hosts.lost(sent.host, errors[sent.replies])
        batch = open_batches[sent.replies]
        return Missing(future.device, "lost") if batch is None else batch[sent.index]

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

    def _take(self, refs: Sequence[Any]) -> dict[Any, Exception]:
        """Keep the receipts of finished batches; gives the errors of those that are lost."""
        batches, errors = fetch(refs)
        for call, sent in self._sent.items():
            if sent.receipts in batches:
                self._receipts[call] = batches[sent.receipts][sent.index]
        return errors

    def _forget(self, calls: Sequence[int]) -> None:
        """Drop calls that will never have a reply."""
        self.revert([self._sent[call].call.future for call in calls])
        for call in calls:
            del self._sent[call]
            self._receipts.pop(call, None)
            self._missing.setdefault(call, "lost")
