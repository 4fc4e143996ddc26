"""Tasks with predecessors, some of them transfers that share links, and the one loop that tells when each is done."""

import heapq
import math
from collections.abc import Sequence

from rayfed.twin.flows import Channel, Link, binding, channels


class Tasks:
    """A graph of tasks, numbered in the order added; a task's predecessors are added before it."""

    def __init__(self) -> None:
        self._waits: list[int] = []
        self._seconds: list[float] = []
        self._next: list[list[int]] = []
        self._flows: dict[int, tuple[float, tuple[Link, ...]]] = {}
        self.begin: list[float] = []
        self.done: list[float] = []
        """begin, done: when each task was; not a number until `run`."""
        self._channels: list[Channel] = []
        self._channel_of: dict[int, int] = {}
        self._heap: list[tuple[float, int, int, int]] = []
        """(time, 0, task, 0) of what is done and (time, 1, channel, version) of forecasts."""
        self._touched: dict[int, None] = {}

    def at(self, time: float) -> int:
        """A task that is done at a given time."""
        return self._add((), 0, time)

    def after(self, needs: Sequence[int], seconds: float = 0.0) -> int:
        """A task that begins when all of `needs` are done and lasts so many seconds."""
        return self._add(needs, len(needs), seconds)

    def first(self, needs: Sequence[int]) -> int:
        """A task that is done when the first of `needs` is."""
        return self._add(needs, 1, 0.0)

    def transfer(self, need: int, nbytes: int, latency_s: float, links: tuple[Link, ...]) -> int:
        """A transfer that begins when `need` is done; without links, its latency is all it takes."""
        task = self._add((need,), 1, latency_s)
        if links:
            self._flows[task] = (8.0 * nbytes, links)
        return task

    def run(self) -> None:
        """Fill `begin` and `done`, once; the order of events depends on times and task numbers alone."""
        routes = binding([links for _, links in self._flows.values()])
        self._channels, numbers = channels(routes)
        for task, links, number in zip(self._flows, routes, numbers, strict=True):
            self._flows[task] = (self._flows[task][0], links)
            self._channel_of[task] = number
        self._heap = [(self._seconds[task], 0, task, 0) for task, waits in enumerate(self._waits) if not waits]
        heapq.heapify(self._heap)
        while self._heap:
            now = self._heap[0][0]
            while self._heap and self._heap[0][0] == now:
                _, forecast, number, version = heapq.heappop(self._heap)
                if not forecast:
                    self._finish(number, now)
                elif self._channels[number].version == version:
                    self._touched[number] = None
            self._share_links(now)

    def _add(self, needs: Sequence[int], waits: int, seconds: float) -> int:
        task = len(self._waits)
        self._waits.append(waits)
        self._seconds.append(seconds)
        self._next.append([])
        self.begin.append(math.nan)
        self.done.append(math.nan)
        for need in needs:
            self._next[need].append(task)
        return task

    def _finish(self, task: int, now: float) -> None:
        self.done[task] = now
        for follower in self._next[task]:
            self._waits[follower] -= 1
            if self._waits[follower] == 0:
                self._start(follower, now)

    def _start(self, task: int, now: float) -> None:
        self.begin[task] = now
        if task in self._flows:
            number = self._channel_of[task]
            self._channels[number].join(task, *self._flows[task])
            self._touched[number] = None
        else:
            heapq.heappush(self._heap, (now + self._seconds[task], 0, task, 0))

    def _share_links(self, now: float) -> None:
        for number in self._touched:
            channel = self._channels[number]
            finished, forecast = channel.settle(now)
            for task in finished:
                heapq.heappush(self._heap, (now + self._seconds[task], 0, task, 0))
            if forecast < math.inf:
                heapq.heappush(self._heap, (forecast, 1, number, channel.version))
        self._touched.clear()
