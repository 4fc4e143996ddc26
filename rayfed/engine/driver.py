"""The driver's loop: round, callbacks, evaluation. The callbacks are the only writers of the store and of MLflow."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from rayfed.config import RunConfig
from rayfed.engine.callbacks import Callback, History, save_pictures
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.session import Session
from rayfed.errors import counted
from rayfed.fleet.protocol import Arrays
from rayfed.methods.spec import method_of
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
    history: History = ()
    """Of a resumed run."""
    unjudged: Mapping[int, Arrays] = field(default_factory=dict)
    """Of a resumed run, by round, what the task was to judge when it was killed."""
    initial: Arrays | None = None
    """Networks with which a new run begins instead of the method's own; see `Trainer.start`."""
    stop: Stop = field(default_factory=Stop)
    _warned: set[str] = field(default_factory=set, init=False)

    def drive(self, last: Checkpoint | None) -> Checkpoint:
        """Rounds until the last one, until `stop`, or until a callback gives a reason to end.

        1. Start: a new run's initial state goes to the callbacks and is drawn; a resumed one's pending evaluations are
           made again.
        2. A round.
        3. Its throughput, from the last round's end to this one's.
        4. The callbacks, the store's commit first.
        5. Its events, in words.
        6. Its evaluation begins if it is due, and those that are ready go to the callbacks. A callback may wait for it.
        7. After the last round: wait for the evaluations under way.
        """
        for callback in self.callbacks:
            callback.on_begin(self.config, self.history)
        checkpoint = self._start(last)
        mark = time.perf_counter()
        waits = any(callback.waits for callback in self.callbacks)
        while checkpoint.round < self.config.rounds and not self.stop.requested and not self.stop_reason:
            checkpoint = self.session.round()
            now = time.perf_counter()
            checkpoint, mark = self._timed(checkpoint, now - mark), now
            for callback in self.callbacks:
                callback.on_round(checkpoint)
            self._tell(checkpoint)
            judging = time.perf_counter()
            self._evaluate_if_due(checkpoint)
            self._hear(wait=waits)
            mark += time.perf_counter() - judging  # without Ray, evaluation happens here
        if self.stop_reason:
            self.notice(f"the run ends after round {checkpoint.round}: {self.stop_reason}")
        self._finish()
        for callback in self.callbacks:
            callback.on_end(checkpoint)
        return checkpoint

    @property
    def stop_reason(self) -> str | None:
        """Why a callback ends the run. None means that none does."""
        return next((callback.stop_reason for callback in self.callbacks if callback.stop_reason), None)

    def _start(self, last: Checkpoint | None) -> Checkpoint:
        checkpoint = self.session.start(last, self.initial)
        if self.initial:
            taken = [name for name in self.initial if name in checkpoint.state.models]
            self.notice(f"begins with the {' and '.join(taken)} of {self.config.init_from}")
        for round, arrays in self.unjudged.items():
            self.session.evaluate(round, arrays)
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
            self.notice(f"waiting for {counted(self.session.waiting, 'evaluation')}; Ctrl-C leaves them out")
        self._hear(wait=True)

    @property
    def _task(self) -> Task:
        return method_of(self.config).task

    def _tell(self, checkpoint: Checkpoint) -> None:
        """The round's events, briefly where there are many."""
        for event in checkpoint.events[:TOLD]:
            self.notice(f"round {checkpoint.round}: {event.sentence()}")
        if (more := len(checkpoint.events) - TOLD) > 0:
            self.notice(f"round {checkpoint.round}: {counted(more, 'more such event')}; all will be in events.csv")

    def _evaluate_if_due(self, checkpoint: Checkpoint) -> None:
        if self.config.is_evaluated(checkpoint.round):
            self.session.evaluate(checkpoint.round, self._task.outcome(checkpoint.state.arrays))

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
