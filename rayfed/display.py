"""What a run shows on the terminal: a live line while it trains, one short table at its end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rayfed.runtime.capacity import Capacity, amounts_text, describe
from rayfed.runtime.judge import Verdict
from rayfed.store import Commit

MB = 1e6
QUIET_SECONDS = 10
"""Between two lines of progress where there is no terminal."""


class Display:
    """Progress on stderr; a log file gets a line every few seconds instead of a moving one."""

    def __init__(self, rounds: int) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.rounds = rounds
        self.done = 0
        self.up = self.down = 0.0
        self.fid = "-"
        self.last_line = 0.0
        self.progress = Progress(
            TextColumn("round"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[rate]} images/s"),
            TextColumn("↑{task.fields[up]} ↓{task.fields[down]} MB"),
            TextColumn("FID {task.fields[fid]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=False,
        )

    def notice(self, text: str) -> None:
        """One line for the user."""
        self.console.print(text, soft_wrap=True)

    def capacity(self, capacity: Capacity, scaling: bool) -> None:
        """What was asked and what the cluster has; what an autoscaler must add."""
        self.notice(f"actors: {', '.join(map(describe, capacity.asks))}")
        self.notice(f"cluster: {amounts_text(capacity.total)} on {len(capacity.nodes)} node(s)")
        for ask in capacity.unplaced if scaling else ():
            self.notice(f"asked of the autoscaler: {describe(ask)}")

    @contextmanager
    def live(self, start: int) -> Iterator[None]:
        """The moving line, from round `start` on."""
        self.done = start
        self.task = self.progress.add_task("", total=self.rounds, completed=start, **self._fields("-"))
        if not self.console.is_terminal:
            yield
            return
        with self.progress:
            yield

    def round(self, commit: Commit) -> None:
        """A committed round."""
        self.done = commit.round
        self.up += commit.metrics["bytes_up"]
        self.down += commit.metrics["bytes_down"]
        self._show(f"{commit.metrics['images_per_s']:,.0f}")

    def verdict(self, verdict: Verdict) -> None:
        """An FID that has arrived: of Inception if there is one, else of the classifier."""
        name = "fid" if "fid" in verdict.metrics else "fid_classifier"
        label = "" if name == "fid" else " (classifier)"
        self.fid = f"{verdict.metrics[name]:.1f}{label}"
        self.progress.update(self.task, fid=self.fid)

    def _show(self, rate: str) -> None:
        self.progress.update(self.task, completed=self.done, **self._fields(rate))
        now = time.monotonic()
        if not self.console.is_terminal and (now - self.last_line > QUIET_SECONDS or self.done == self.rounds):
            self.last_line = now
            fields = self._fields(rate)
            self.notice(
                f"round {self.done}/{self.rounds}  {rate} images/s  up {fields['up']} MB  down {fields['down']} MB  "
                f"FID {self.fid}"
            )

    def _fields(self, rate: str) -> dict[str, Any]:
        return {"rate": rate, "up": f"{self.up / MB:,.0f}", "down": f"{self.down / MB:,.0f}", "fid": self.fid}


def closing_table(summary: Mapping[str, Any]) -> str:
    """A run's summary for people: two plain columns whose paths and commands can be copied from any terminal."""
    rows = {"run": f"{summary['run']} ({summary['status']}, {summary['rounds']} rounds)"}
    for name, label in (("fid", "FID"), ("fid_classifier", "FID (classifier's features)")):
        if fid := summary.get(name):
            rows[label] = f"first {fid['first']:.1f}   best {fid['best']:.1f}   last {fid['last']:.1f}"
    if "images_per_s" in summary:
        up, down = (summary[f"bytes_{way}_per_round"] / MB for way in ("up", "down"))
        rows["images/s"] = f"{summary['images_per_s']:,.0f}"
        rows["per round"] = f"{up:,.2f} MB up, {down:,.2f} MB down"
    if summary["samples"]:
        rows["samples"] = summary["samples"]
    if summary["mlflow"]:
        rows["MLflow"] = summary["mlflow"]
    if summary["resume"]:
        rows["go on with"] = summary["resume"]
    width = max(map(len, rows))
    return "\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows.items())
