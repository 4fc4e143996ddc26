"""What all callbacks together (store, MLflow, console, live metrics) take of a run's rounds, as a share of their time.

    python benchmarks/callbacks.py [KEY=VALUE ...]

Runs jobs/demo.yaml twice, evaluations included, and calls the callbacks in every second block of eight rounds only:
in the first run in the odd blocks, in the second in the even ones. So each round is timed with callbacks and without
them, on the same work. A block's first round is left out: MLflow's queue may still be sending the last block's figures.
Prints the seconds for which the loop waits for each callback, what a round takes more with them, whatever they leave
to other threads included, and its standard error over the blocks; the ratio with / without comes last.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
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
from rayfed.tasks.base import EvaluationResult

JOB = Path(__file__).parents[1] / "jobs" / "demo.yaml"
BLOCK = 8
"""Rounds."""
BLOCKS = 10
LEAD = 2
"""Rounds before the first block, so that a block's evaluations, every four rounds, end in it."""


class Alternating(Callback):
    """Calls callbacks in their order in every second block of rounds, and times all rounds."""

    def __init__(self, callbacks: list[Callback], called_first: bool) -> None:
        self._callbacks, self._called_first = callbacks, called_first
        self.waits_for: dict[str, float] = {}
        self.seconds: list[float] = []
        self._mark = 0.0

    def calls(self, round: int) -> bool:
        """Whether the callbacks hear of a round."""
        return ((round - 1 - LEAD) // BLOCK % 2 == 0) == self._called_first

    def _call(self, name: str, *args: Any) -> None:
        for callback in self._callbacks:
            begun = time.perf_counter()
            getattr(callback, name)(*args)
            callback_name = type(callback).__name__
            self.waits_for[callback_name] = self.waits_for.get(callback_name, 0) + time.perf_counter() - begun

    def on_begin(self, *args: Any) -> None:
        self._call("on_begin", *args)

    def on_start(self, checkpoint: Checkpoint) -> None:
        self._call("on_start", checkpoint)
        self.waits_for.clear()
        self._mark = time.perf_counter()

    def on_round(self, checkpoint: Checkpoint) -> None:
        if self.calls(checkpoint.round):
            self._call("on_round", checkpoint)
        now = time.perf_counter()
        self.seconds.append(now - self._mark)
        self._mark = now

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        if self.calls(result.round):
            self._call("on_evaluation", result, pictures)

    def on_end(self, checkpoint: Checkpoint) -> None:
        waited = self.waits_for.copy()
        self._call("on_end", checkpoint)
        self.waits_for = waited


def measure(called_first: bool, *settings: str) -> Alternating:
    """One run."""
    kept = []

    @dataclass
    class AlternatingDriver(Driver):
        def __post_init__(self) -> None:
            kept.append(Alternating(list(self.callbacks), called_first))
            self.callbacks = kept

    open_run.Driver = AlternatingDriver  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = ["run", str(JOB), f"runs_dir={folder}", f"rounds={LEAD + BLOCKS * BLOCK}", *settings]
        try:
            rayfed()
        except SystemExit as end:
            if end.code:
                raise
    return kept[0]


if __name__ == "__main__":
    settings = sys.argv[1:]
    runs = [measure(called_first, *settings) for called_first in (True, False)]
    for name, seconds in runs[0].waits_for.items():
        each = (seconds + runs[1].waits_for[name]) / (LEAD + BLOCKS * BLOCK)
        print(f"{name:20} {1000 * each:8.2f} ms a round")
    ratios, with_all, without_all = [], 0.0, 0.0
    for begin in range(LEAD, LEAD + BLOCKS * BLOCK, BLOCK):
        rounds = slice(begin + 1, begin + BLOCK)
        first, second = (sum(run.seconds[rounds]) for run in runs)
        with_, without = (first, second) if runs[0].calls(begin + 1) else (second, first)
        ratios.append(with_ / without)
        with_all, without_all = with_all + with_, without_all + without
    print("blocks", *(f"{ratio:.3f}" for ratio in ratios))
    print(f"a round {1000 * without_all / (BLOCKS * (BLOCK - 1)):.0f} ms without callbacks")
    print(f"standard error {statistics.stdev(ratios) / len(ratios) ** 0.5:.4f}")
    print(f"ratio {with_all / without_all:.4f}")
