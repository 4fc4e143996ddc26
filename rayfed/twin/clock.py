"""The twin's clock: replays a round's ledger on the simulated hardware and says when everything would have happened.

The server runs its events in order: it waits only to compute (Work) and for replies (Collect). Each device runs
its calls in the order submitted. A payload travels as soon as it exists: a shared one from the server's point at the
Share (or at the Mark that `since` names), another call's reply from the end of that call, anything else from
the submission. Transfers under way share their links max-min fairly. A round's transfers do not meet those of
another round; its computations do, by the time until which each node is busy.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from rayfed.config.simulation import Twin
from rayfed.fleet.ledger import Call, Collect, Event, Input, Ledger, Mark, Share, Work
from rayfed.ids import DeviceId
from rayfed.seeding import SERVER
from rayfed.twin.network import Network
from rayfed.twin.profiles import Processor, profile_of
from rayfed.twin.tasks import Tasks

ON_TIME = 1 + 1e-9
"""A reply this close to the deadline is on time."""


class State(TypedDict):
    """What a round leaves to the next, in simulated seconds since the run's start; plain JSON."""

    now: float
    busy: dict[str, float]
    """Until when a node computes (device number, or "-1" for the server), if longer than `now`."""
    marks: dict[str, float]


@dataclass(frozen=True)
class Times:
    """A round's simulated times, in seconds."""

    seconds: float
    end: float
    """Since the run's start."""
    arrivals: dict[int, float]
    """Per collected call: from the start of its exchange (the round's, or the end of the Collect before its own)
    until the server had its whole reply."""
    computed: dict[int, float]
    sent: dict[int, float]
    waited: dict[int, float]
    """Per device of the ledger, within the round: computing; with a transfer under way; doing neither."""
    link_bytes: dict[tuple[int, int], int]
    """Bytes by (source, destination)."""
    missed: list[int]
    """Devices with a reply after twin.deadline_s, ascending."""
    slowness: dict[DeviceId, float]
    """Per device that computed: the seconds it took over those that its profile says."""


class Clock:
    """The simulated time of runs with these devices.

    compute: [devices] each one's capability relative to its profile's flops_per_s.
    """

    def __init__(self, twin: Twin, devices: int, seed: int, compute: Sequence[float]):
        assert len(compute) == devices, f"{len(compute)} capabilities for {devices} devices"
        self.network = Network(twin, devices, seed)
        self._twin = twin
        self._seed = seed
        self._compute = {**dict(enumerate(compute)), SERVER: 1.0}

    def start(self) -> State:
        """The state before the first round."""
        return {"now": 0.0, "busy": {}, "marks": {}}

    def replay(self, ledger: Ledger, round: int, state: State) -> tuple[Times, State]:
        """A round's times and the state after it; `state` is left as it is.

        Raises UserError where a transfer has no route.
        """
        program = _Program(self._twin, self.network, self._processors(ledger, round), ledger, state)
        program.tasks.run()
        return program.times(), program.state()

    def _processors(self, ledger: Ledger, round: int) -> dict[int, Processor]:
        nodes = {SERVER, *(call.device for call in ledger.calls)}
        return {k: Processor(profile_of(self._twin, k), self._compute[k], self._seed, round, k) for k in sorted(nodes)}


class _Program:
    """A round's ledger as a graph of tasks; times in it count from the round's start."""

    def __init__(
        self, twin: Twin, network: Network, processors: dict[int, Processor], ledger: Ledger, state: State
    ) -> None:
        self.tasks = Tasks()
        self._twin, self._network, self._processors = twin, network, processors
        self._ledger, self._before = ledger, state
        self._scheduled = max(1, len(processors.keys() - {SERVER}))
        self._point = self._exchange = self.tasks.at(0.0)
        self._last = {int(node): self.tasks.at(until - state["now"]) for node, until in state["busy"].items()}
        self._marks: dict[str, int] = {}
        self._handles: dict[int, int] = {}
        self._calls: dict[int, tuple[Call, int]] = {}
        self._replies: dict[int, tuple[int, int]] = {}
        self._computing: dict[int, list[int]] = {node: [] for node in processors}
        self._sending: dict[int, list[int]] = {}
        for event in ledger.events:
            self._enter(event)

    def _enter(self, event: Event) -> None:
        match event:
            case Share(handle, since):
                self._handles[handle] = self._point if since is None else self._marked(since)
            case Mark(name):
                self._marks[name] = self._point
            case Work():
                self._point = self._run(SERVER, event.flops, [self._point])
            case Call():
                arrived = [self._input(each, event.device) for each in event.inputs]
                self._calls[event.id] = event, self._run(event.device, event.flops, [self._point, *arrived])
            case Collect(calls):
                self._collect(calls)

    def _marked(self, name: str) -> int:
        earlier = self._before["marks"]
        if name not in self._marks and name in earlier:
            return self.tasks.at(earlier[name] - self._before["now"])
        return self._marks.get(name, self._point)

    def _run(self, node: int, flops: int, needs: list[int]) -> int:
        if node in self._last:
            needs = [*needs, self._last[node]]
        self._last[node] = self.tasks.after(needs, self._processors[node].seconds(flops))
        self._computing[node].append(self._last[node])
        return self._last[node]

    def _input(self, each: Input, device: int) -> int:
        """The task by which an argument is on the device."""
        if each.call is not None and each.call in self._calls:
            ready = self._calls[each.call][1]
        elif each.handle is not None:
            ready = self._handles.get(each.handle, self._point)
        else:
            ready = self._point
        shared = each.handle is not None and each.source == SERVER
        return self._send(each.source, device, each.nbytes, ready, shared)

    def _send(self, source: int, destination: int, nbytes: int, ready: int, broadcast: bool = False) -> int:
        if not nbytes or source == destination:
            return ready
        route = self._network.route(source, destination, broadcast, self._scheduled)
        task = self.tasks.transfer(ready, nbytes, route.latency_s, route.resources)
        for node in (source, destination):
            self._sending.setdefault(node, []).append(task)
        return task

    def _collect(self, calls: Iterable[int]) -> None:
        here = [self._point]
        for id in calls:
            if id not in self._calls:
                continue
            if id not in self._replies:
                call, done = self._calls[id]
                self._replies[id] = self._send(call.device, SERVER, call.nbytes, done), self._exchange
            here.append(self._replies[id][0])
        self._point = self._within_deadline(self.tasks.after(here))
        self._exchange = self._point

    def _within_deadline(self, everything: int) -> int:
        if not self._twin.drop_late or self._twin.deadline_s is None:
            return everything
        cut = self.tasks.after([self._exchange], self._twin.deadline_s)
        return self.tasks.first([everything, self.tasks.after([self._point, cut])])

    def times(self) -> Times:
        """The times of the graph that has run."""
        done, seconds = self.tasks.done, self.tasks.done[self._point]
        arrivals = {id: max(0.0, done[reply] - done[start]) for id, (reply, start) in self._replies.items()}
        devices = sorted((self._computing.keys() | self._sending.keys()) - {SERVER})
        computing = {k: self._carried(k) + self._spans(self._computing.get(k, ())) for k in devices}
        sending = {k: self._spans(self._sending.get(k, ())) for k in devices}
        limit = self._twin.deadline_s
        late = {self._calls[id][0].device for id, time in arrivals.items() if limit and time > limit * ON_TIME}
        bytes_by_link: Counter[tuple[int, int]] = Counter()
        for move in self._ledger.transfers:
            bytes_by_link[move.source, move.destination] += move.nbytes
        return Times(
            seconds=seconds,
            end=self._before["now"] + seconds,
            arrivals=arrivals,
            computed={k: _covered(computing[k], seconds) for k in devices},
            sent={k: _covered(sending[k], seconds) for k in devices},
            waited={k: seconds - _covered(computing[k] + sending[k], seconds) for k in devices},
            link_bytes=dict(bytes_by_link),
            missed=sorted(late - {SERVER}),
            slowness={
                DeviceId(k): ratio for k in devices if k in self._processors and (ratio := self._processors[k].slowness)
            },
        )

    def state(self) -> State:
        """The state after the graph has run."""
        start, end = self._before["now"], self.tasks.done[self._point]
        marked = {name: start + self.tasks.done[task] for name, task in self._marks.items()}
        until = {node: self.tasks.done[task] for node, task in sorted(self._last.items())}
        return {
            "now": start + end,
            "busy": {str(node): start + time for node, time in until.items() if time > end},
            "marks": {**self._before["marks"], **marked},
        }

    def _carried(self, device: int) -> list[tuple[float, float]]:
        """What an earlier round left it to compute."""
        until = self._before["busy"].get(str(device))
        return [] if until is None else [(0.0, until - self._before["now"])]

    def _spans(self, tasks: Iterable[int]) -> list[tuple[float, float]]:
        return [(self.tasks.begin[task], self.tasks.done[task]) for task in tasks]


def _covered(spans: list[tuple[float, float]], end: float) -> float:
    """Seconds from 0 to `end` in which at least one of the spans (begin, done) lasts."""
    total, reached = 0.0, 0.0
    for begin, done in sorted(spans):
        begin, done = max(begin, reached), min(done, end)
        if done > begin:
            total += done - begin
            reached = done
    return total
