"""What a run shows on the terminal while it trains: a live line, or lines in a log file."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.status import Status

from rayfed.cluster.capacity import Capacity, amounts_text, describe
from rayfed.config import RunConfig
from rayfed.engine.callbacks import Callback, History
from rayfed.engine.checkpoint import Checkpoint
from rayfed.errors import counted
from rayfed.methods.spec import method_of
from rayfed.report.numbers import shown
from rayfed.tasks.base import EvaluationResult, Metric

MB = 1e6
QUIET_SECONDS = 10
"""Between two lines of progress where there is no terminal."""


def progress_on(console: Console) -> Progress:
    """Moving lines, each a task with the fields `rate`, `up`, `down` and `judged`."""
    return Progress(
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[rate]} images/s"),
        TextColumn("↑{task.fields[up]} ↓{task.fields[down]} MB"),
        TextColumn("{task.fields[judged]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=False,
    )


class Display:
    """Progress on stderr; a log file gets a line every few seconds instead of a moving one."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.progress = progress_on(self.console)
        self.line = Line(self, "round")
        self._status: Status | None = None

    def waits_for(self, what: str) -> None:
        """Say what the run waits for, until `live` or the next such line; a log file gets a line."""
        if not self.console.is_terminal:
            self.notice(f"{what} ...")
        elif self._status:
            self._status.update(what)
        else:
            self._status = self.console.status(what)
            self._status.start()

    def close(self) -> None:
        """Nothing is waited for any more; the terminal is as it was."""
        if self._status:
            self._status.stop()
        self._status = None

    def notice(self, text: str) -> None:
        """One line for the user."""
        self.console.print(text, soft_wrap=True)

    def capacity(self, capacity: Capacity, scaling: bool) -> None:
        """What was asked and what the cluster has; what an autoscaler must add."""
        self.notice(f"actors: {', '.join(map(describe, capacity.asks))}")
        self.notice(f"cluster: {amounts_text(capacity.total)} on {counted(len(capacity.nodes), 'node')}")
        for ask in capacity.of_the_autoscaler if scaling else ():
            self.notice(f"asked of the autoscaler: {describe(ask)}")

    def callback(self, config: RunConfig) -> Callback:
        """The line of this run."""
        self.line.begin(config)
        return self.line

    @contextmanager
    def live(self, start: int) -> Iterator[None]:
        """The moving line, from round `start` on."""
        self.close()
        self.line.show(start)
        if not self.console.is_terminal:
            yield
            return
        with self.progress:
            yield


class Line(Callback):
    """One run's line of progress."""

    def __init__(self, display: Display, name: str, prefix: str = "") -> None:
        """`prefix`: before each line of a log file."""
        self._display, self._name, self._prefix = display, name, prefix
        self._rounds: int | None = None
        self._task: TaskID | None = None
        self._up = self._down = 0.0
        self._judged = ""
        self._last_line = 0.0

    def begin(self, config: RunConfig) -> None:
        """Say how long the run is and by what it is judged."""
        self._rounds = config.rounds
        self._metrics: tuple[Metric, ...] = tuple(method_of(config).task.metrics)

    def wait(self, what: str) -> None:
        """What the run waits for before its first round."""
        self._judged = what
        self.show(0)
        self._judged = ""

    def show(self, done: int, rate: str = "-") -> None:
        """The line after so many rounds."""
        progress, fields = self._display.progress, self._fields(rate)
        if self._task is None:
            self._task = progress.add_task(self._name, total=self._rounds, completed=done, **fields)
        progress.update(self._task, completed=done, total=self._rounds, **fields)

    def remove(self) -> None:
        """Take the line away."""
        if self._task is not None:
            self._display.progress.remove_task(self._task)

    def on_round(self, checkpoint: Checkpoint) -> None:
        """A committed round."""
        self._up += checkpoint.metrics["bytes_up"]
        self._down += checkpoint.metrics["bytes_down"]
        rate = f"{checkpoint.metrics['images_per_s']:,.0f}"
        self.show(checkpoint.round, rate)
        self._log(checkpoint.round, rate)

    def on_begin(self, config: RunConfig, history: History) -> None:
        """The last evaluation of a resumed run."""
        for _, metrics in history:
            self._judge(metrics)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        """A new evaluation."""
        self._judge(result.metrics)

    def _judge(self, metrics: Mapping[str, float]) -> None:
        """The primary metric, and which one it is where the task has several of that name."""
        metric = next((metric for metric in self._metrics if metric.name in metrics), None)
        if metric is None:
            return
        which = f" ({metric.detail})" if metric.detail and metric is not self._metrics[0] else ""
        self._judged = f"{metric.label} {shown(metrics[metric.name])}{which}"
        if self._task is not None:
            self._display.progress.update(self._task, judged=self._judged)

    def _log(self, round: int, rate: str) -> None:
        now = time.monotonic()
        due = now - self._last_line > QUIET_SECONDS or round == self._rounds
        if not self._display.console.is_terminal and due:
            self._last_line = now
            traffic = f"up {self._up / MB:,.0f} MB  down {self._down / MB:,.0f} MB"
            line = f"{self._prefix}round {round}/{self._rounds}  {rate} images/s  {traffic}  {self._judged}"
            self._display.notice(line.rstrip())

    def _fields(self, rate: str) -> dict[str, Any]:
        up, down = f"{self._up / MB:,.0f}", f"{self._down / MB:,.0f}"
        return {"rate": rate, "up": up, "down": down, "judged": self._judged}


class ComparisonDisplay:
    """A comparison on stderr: a moving line for each run that trains, and a line that stays for each that has ended."""

    def __init__(self) -> None:
        self.display = Display()
        self.said: set[str] = set()

    def notice(self, text: str) -> None:
        """One line for the user, once."""
        if text not in self.said:
            self.said.add(text)
            self.display.notice(text)

    def live(self) -> AbstractContextManager[Any]:
        """The moving lines."""
        return self.display.progress if self.display.console.is_terminal else nullcontext()

    def run(self, name: str) -> "RunDisplay":
        """Who watches one of the runs."""
        return RunDisplay(self, name)


class RunDisplay:
    """One run of a comparison: its line, gone when the run ends."""

    def __init__(self, comparison: ComparisonDisplay, name: str) -> None:
        self.comparison = comparison
        self.name = name
        self.line = Line(comparison.display, name, prefix=f"{name}: ")

    def waits_for(self, what: str) -> None:
        """What the run waits for, on its own line."""
        self.line.wait(what)

    def notice(self, text: str) -> None:
        """One line for the user, unless another run has said it."""
        self.comparison.notice(text)

    def capacity(self, capacity: Capacity, scaling: bool) -> None:
        """What an autoscaler must add."""
        for ask in capacity.of_the_autoscaler if scaling else ():
            self.notice(f"{self.name}: asked of the autoscaler: {describe(ask)}")

    def callback(self, config: RunConfig) -> Callback:
        """The line of this run."""
        self.line.begin(config)
        return self.line

    @contextmanager
    def live(self, start: int) -> Iterator[None]:
        """The moving line, from round `start` on."""
        self.line.show(start)
        try:
            yield
        finally:
            self.line.remove()
