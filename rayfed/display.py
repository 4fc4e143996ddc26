"""What a run shows on the terminal: a live line while it trains, one short table at its end."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

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
            TextColumn("{task.description}"),
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
        self.task = self.progress.add_task("round", total=self.rounds, completed=start, **self._fields("-"))
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


class Board:
    """A comparison on stderr: a moving line for each run that trains, and a line that stays for each that has ended."""

    def __init__(self) -> None:
        self.display = Display(0)
        self.said: set[str] = set()

    def notice(self, text: str) -> None:
        """One line for the user, once."""
        if text not in self.said:
            self.said.add(text)
            self.display.notice(text)

    def live(self) -> AbstractContextManager[Any]:
        """The moving lines."""
        return self.display.progress if self.display.console.is_terminal else nullcontext()

    def lane(self, name: str, rounds: int) -> "Lane":
        """Who watches one of the runs."""
        return Lane(self, name, rounds)


class Lane(Display):
    """One run of a comparison: its line on the board, gone when the run ends."""

    def __init__(self, board: Board, name: str, rounds: int) -> None:
        super().__init__(rounds)
        self.board = board
        self.name = name
        self.progress = board.display.progress

    def notice(self, text: str) -> None:
        """One line for the user, unless another run has said it."""
        self.board.notice(text)

    def capacity(self, capacity: Capacity, scaling: bool) -> None:
        """What an autoscaler must add."""
        for ask in capacity.unplaced if scaling else ():
            self.notice(f"{self.name}: asked of the autoscaler: {describe(ask)}")

    @contextmanager
    def live(self, start: int) -> Iterator[None]:
        """The moving line, from round `start` on."""
        self.task = self.progress.add_task(self.name, total=self.rounds, completed=start, **self._fields("-"))
        try:
            yield
        finally:
            self.progress.remove_task(self.task)

    def _show(self, rate: str) -> None:
        self.progress.update(self.task, completed=self.done, **self._fields(rate))


def comparison_closing(found: Mapping[str, Any]) -> str:
    """A comparison's document for people: its table, then where the rest is and what goes on how."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    with console.capture() as table:
        console.print(comparison_table(found))
    features = {"fid": "FID in Inception's features", "fid_classifier": "FID in the classifier's features"}
    notes = [features.get(found["fid"], "no FID was measured"), "sim.: on the simulated devices"]
    if (seeds := max(len(run["series"]) for run in found["runs"].values())) > 1:
        notes.append(f"mean of {seeds} seeds (FID: ± std)")
    rows = {"comparison": f"{found['comparison']} ({found['status']})", "figure": found["figure"]}
    rows["FIDs as CSV"] = found["table"]
    if found["mlflow"]:
        rows["MLflow"] = found["mlflow"]
    for name, command in found["resume"].items():
        rows[f"{name} goes on with"] = command
    if found["without_result"]:
        rows["without result"] = "; ".join(found["without_result"])
    return f"\n{table.get()}{'; '.join(notes)}\n\n{_pairs(rows)}"


def comparison_table(found: Mapping[str, Any]) -> Table:
    """One line per run: means over seeds, an FID's with the standard deviation."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run")
    headers = ("rounds", "FID\nbest", "FID\nlast", "sim.\nseconds", f"sim. s to\nFID {_number(found['common_fid'])}")
    for header in (*headers, "MB per\ndevice", "sim.\nimages/s", "wall\nimages/s"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, run in found["runs"].items():
        figures = run["summary"]
        cells = {figure: _number(values["mean"]) for figure, values in figures.items()}
        if figures["bytes_device"]["mean"] is not None:
            cells["bytes_device"] = _number(figures["bytes_device"]["mean"] / MB)
        for fid in ("fid_best", "fid_last"):
            if figures[fid]["spread"] is not None:
                cells[fid] += f" ± {_number(figures[fid]['spread'])}"
        table.add_row(name, *cells.values())
    return table


def _number(value: float | None) -> str:
    """With a sensible number of digits."""
    if value is None:
        return "-"
    digits = 0 if value == int(value) or abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _pairs(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows.items())


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
    return f"\n{_pairs(rows)}"
