"""The driver's loop: round, commit, track, judge; the only writer of the store and of MLflow."""

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Protocol

from rayfed.config import RunConfig
from rayfed.report.pictures import sample_grid
from rayfed.runtime.capacity import Capacity
from rayfed.runtime.judge import Failure, Verdict
from rayfed.runtime.session import Session
from rayfed.store import Commit, Store
from rayfed.tracking import NoTracker, Tracker

TOLD = 3
"""Events of a round that the user reads at once."""


class Listener(Protocol):
    """Who watches a run: `rayfed.display`."""

    def notice(self, text: str) -> None: ...
    def capacity(self, capacity: Capacity, scaling: bool) -> None: ...
    def live(self, start: int) -> AbstractContextManager[None]: ...
    def round(self, commit: Commit) -> None: ...
    def verdict(self, verdict: Verdict) -> None: ...


@dataclass
class Stop:
    """Set by the first Ctrl-C (or SIGTERM): stop after the current round. A second one interrupts at once."""

    requested: bool = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Handle the signals for the length of a run."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class Driver:
    """One run from its last commit to its end."""

    run_id: str
    config: RunConfig
    session: Session
    store: Store
    tracker: Tracker | NoTracker
    listener: Listener
    folder: Path
    samples: int
    """Training images over all devices: an epoch."""
    stop: Stop = field(default_factory=Stop)

    def drive(self, last: Commit | None) -> Commit:
        """Rounds until the last one or until `stop`; every one is committed before the next begins."""
        commit = self.session.start(last)
        if last is None:
            self.store.commit(self.run_id, commit, self.config.store.keep)
        elif self._due(commit) and not {"fid", "fid_classifier"} & commit.metrics.keys():
            self.session.judge(commit.round, commit.arrays["generator"])
        mark = time.perf_counter()
        while commit.round < self.config.rounds and not self.stop.requested:
            commit = self.session.round()
            now = time.perf_counter()
            commit, mark = self._timed(commit, now - mark), now
            self.store.commit(self.run_id, commit, self.config.store.keep)
            self.tracker.log(commit.round, commit.metrics)
            self.listener.round(commit)
            self._tell(commit)
            judging = time.perf_counter()
            if self._due(commit):
                self.session.judge(commit.round, commit.arrays["generator"])
            self._hear(wait=False)
            mark += time.perf_counter() - judging  # without Ray, evaluation happens here
        if self.session.waiting > 1 or (self.stop.requested and self.session.waiting):
            self.listener.notice(f"waiting for {self.session.waiting} evaluation(s); Ctrl-C leaves them out")
        self._hear(wait=True)
        return commit

    def _tell(self, commit: Commit) -> None:
        """The round's events, briefly where there are many."""
        new = [text for round, text in commit.facts["events"] if round == commit.round]
        for text in new[:TOLD]:
            self.listener.notice(f"round {commit.round}: {text}")
        if len(new) > TOLD:
            self.listener.notice(f"round {commit.round}: {len(new) - TOLD} more such events; all will be in events.csv")

    def _due(self, commit: Commit) -> bool:
        every = self.config.evaluation.every
        return bool(every) and (commit.round % every == 0 or commit.round == self.config.rounds) and commit.round > 0

    def _timed(self, commit: Commit, seconds: float) -> Commit:
        """Throughput from one round's result to the next: commit, tracking and all."""
        images, participants = commit.metrics["images"], commit.metrics["participants"]
        rates = {
            "images_per_s": images / seconds,
            "updates_per_s": participants / seconds,
            "epochs_per_s": images / self.samples / seconds,
            "seconds": seconds,
        }
        return replace(commit, metrics=commit.metrics | rates)

    def _hear(self, wait: bool) -> None:
        for verdict in self.session.verdicts(wait):
            if isinstance(verdict, Failure):
                self.listener.notice(f"no FID: {verdict.reason}; training goes on")
                continue
            path = sample_grid(verdict.images, self.folder / f"samples-{verdict.round:05d}.png")
            self.store.set_metric(self.run_id, verdict.round, verdict.metrics)
            self.tracker.log(verdict.round, verdict.metrics)
            self.tracker.log_image("samples", path, verdict.round)
            self.listener.verdict(verdict)
