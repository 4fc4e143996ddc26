"""What all callbacks together (store, MLflow, console, live metrics) take of a run's rounds, as a share of their time.

    python benchmarks/callbacks.py [KEY=VALUE ...]

Runs jobs/demo.yaml, evaluations included, and counts from the end of the first round, which warms up, to that of the
last. Of each callback it counts the seconds for which the loop waits for it. What callbacks leave to other threads
(MLflow's queue, the console's line, the gauges) competes with the training for processors: all processor seconds of
the command's other threads are added, Ray's own among them. So the sum is an upper bound; the last line is its share.
"""

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayfed.cluster import prepare_environment

prepare_environment(None)

from rayfed.app import open_run
from rayfed.cli import main as rayfed
from rayfed.engine.callbacks import Callback
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.driver import Driver

JOB = Path(__file__).parents[1] / "jobs" / "demo.yaml"
REPORT: list[str] = []
"""Printed last."""


class Clock(Callback):
    """Calls callbacks in their order, and adds up the seconds of each after the first round."""

    def __init__(self, callbacks: list[Callback]) -> None:
        self._callbacks = callbacks
        self._seconds: Counter[str] = Counter()

    def _call(self, name: str, *args: Any) -> None:
        for callback in self._callbacks:
            begun = time.perf_counter()
            getattr(callback, name)(*args)
            self._seconds[type(callback).__name__] += time.perf_counter() - begun

    def on_begin(self, *args: Any) -> None:
        self._call("on_begin", *args)

    def on_start(self, checkpoint: Checkpoint) -> None:
        self._call("on_start", checkpoint)

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._call("on_round", checkpoint)
        self._now = time.perf_counter(), time.process_time() - time.thread_time()
        if checkpoint.round == 1:
            self._first = self._now
            self._seconds.clear()

    def on_evaluation(self, *args: Any) -> None:
        self._call("on_evaluation", *args)

    def on_end(self, checkpoint: Checkpoint) -> None:
        whole, others = (now - first for now, first in zip(self._now, self._first, strict=True))
        shares = self._seconds | {"other threads": others}
        rounds = checkpoint.round - 1
        for name, seconds in shares.items():
            REPORT.append(f"{name:20} {1000 * seconds / rounds:8.2f} ms a round   {seconds / whole:.4f}")
        REPORT.append(f"{'a round':20} {1000 * whole / rounds:8.2f} ms")
        REPORT.append(f"ratio {sum(shares.values()) / whole:.4f}")
        self._call("on_end", checkpoint)


@dataclass
class ClockedDriver(Driver):
    """The driver with its callbacks behind a clock."""

    def __post_init__(self) -> None:
        self.callbacks = [Clock(list(self.callbacks))]


if __name__ == "__main__":
    open_run.Driver = ClockedDriver
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = ["run", str(JOB), f"runs_dir={folder}", *sys.argv[1:]]
        try:
            rayfed()
        finally:
            print(*REPORT, sep="\n")
