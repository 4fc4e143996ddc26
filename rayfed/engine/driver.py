"""The driver's loop: round, callbacks, evaluation. The callbacks are the only writers of the store and of MLflow."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rayfed.config import RunConfig
from rayfed.engine.callbacks import Callback, save_pictures
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.session import Session
from rayfed.methods.spec import method_of
from rayfed.report.events import sentence
from rayfed.tasks.base import EvaluationFailure, Task

TOLD = 3
"""Events of a round that the user reads at once."""


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
    """One run from its last checkpoint to its end."""

    config: RunConfig
    session: Session
    callbacks: Sequence[Callback]
    """The store's first: what it has not committed nobody hears of."""
    notice: Callable[[str], None]
    """Tells the user one line."""
    folder: Path
    """For pictures."""
    samples: int
    """Training images over all devices: an epoch."""
    stop: Stop = field(default_factory=Stop)
    _warned: set[str] = field(default_factory=set, init=False)

    def drive(self, last: Checkpoint | None) -> Checkpoint:
        """Rounds until the last one or until `stop`.

        1. Start: a new run's initial state goes to the callbacks and is drawn; a resumed one's pending evaluation is
           made again.
        2. A round.
        3. Its throughput, from the last round's end to this one's.
        4. The callbacks, the store's commit first.
        5. Its events, in words.
        6. Its evaluation begins if it is due, and those that are ready go to the callbacks.
        7. After the last round: wait for the evaluations under way.
        """
        checkpoint = self._start(last)
        mark = time.perf_counter()
        while checkpoint.round < self.config.rounds and not self.stop.requested:
            checkpoint = self.session.round()
            now = time.perf_counter()
            checkpoint, mark = self._timed(checkpoint, now - mark), now
            for callback in self.callbacks:
                callback.on_round(checkpoint)
            self._tell(checkpoint)
            judging = time.perf_counter()
            self._evaluate_if_due(checkpoint)
            self._hear(wait=False)
            mark += time.perf_counter() - judging  # without Ray, evaluation happens here
        self._finish()
        return checkpoint

    def _start(self, last: Checkpoint | None) -> Checkpoint:
        checkpoint = self.session.start(last)
        if last is None:
            for callback in self.callbacks:
                callback.on_start(checkpoint)
            if self.config.evaluation.every:
                self.session.evaluate(checkpoint.round, self._task.outcome(checkpoint.state.arrays))
                self._hear(wait=False)
        elif not {metric.name for metric in self._task.metrics} & checkpoint.metrics.keys():
            self._evaluate_if_due(checkpoint)
        return checkpoint

    def _finish(self) -> None:
        if self.session.waiting > 1 or (self.stop.requested and self.session.waiting):
            self.notice(f"waiting for {self.session.waiting} evaluation(s); Ctrl-C leaves them out")
        self._hear(wait=True)

    @property
    def _task(self) -> Task:
        return method_of(self.config).task

    def _tell(self, checkpoint: Checkpoint) -> None:
        """The round's events, briefly where there are many."""
        for event in checkpoint.events[:TOLD]:
            self.notice(f"round {checkpoint.round}: {sentence(event)}")
        if (more := len(checkpoint.events) - TOLD) > 0:
            self.notice(f"round {checkpoint.round}: {more} more such events; all will be in events.csv")

    def _evaluate_if_due(self, checkpoint: Checkpoint) -> None:
        every, round = self.config.evaluation.every, checkpoint.round
        if every and round > 0 and (round % every == 0 or round == self.config.rounds):
            self.session.evaluate(round, self._task.outcome(checkpoint.state.arrays))

    def _timed(self, checkpoint: Checkpoint, seconds: float) -> Checkpoint:
        """Throughput from one round's result to the next: commit, tracking and all."""
        images, participants = checkpoint.metrics["images"], checkpoint.metrics["participants"]
        rates = {
            "images_per_s": images / seconds,
            "updates_per_s": participants / seconds,
            "epochs_per_s": images / self.samples / seconds,
            "seconds": seconds,
        }
        return checkpoint.with_metrics(rates)

    def _hear(self, wait: bool) -> None:
        for result in self.session.evaluations(wait):
            if isinstance(result, EvaluationFailure):
                self.notice(f"no evaluation: {result.reason}; training goes on")
                continue
            for warning in result.warnings:
                if warning not in self._warned:
                    self._warned.add(warning)
                    self.notice(warning)
            pictures = save_pictures(result, self.folder)
            for callback in self.callbacks:
                callback.on_evaluation(result, pictures)
