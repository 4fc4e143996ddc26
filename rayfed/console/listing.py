"""The runs as a table, and one run in full, on the terminal."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

from rayfed.console.tables import closing_table
from rayfed.errors import counted
from rayfed.report.numbers import duration, shown
from rayfed.tasks.base import Metric

if TYPE_CHECKING:
    from rayfed.cluster.jobs import Job

MB = 1e6
WIDE = 200
"""Columns where there is no terminal."""
LEAST = 20
"""Columns of a command, however narrow the terminal is."""
ROWS = 12
"""Rounds of a history that are shown."""
HISTORY = {
    "loss_g": "loss of G",
    "loss_d": "loss of D",
    "images_per_s": "images/s",
    "sim_total_seconds": "sim. seconds",
}


def list_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line per run, those of a comparison under it."""
    measured = [name.removeprefix("best_") for name in rows[0] if name.startswith("best_")]
    named = any(row["name"] for row in rows)
    table = _table("run", *(["name"] if named else []), "method", "data", "seed", "state")
    for header in ("rounds", "began", "took", *(f"{name}\n{which}" for name in measured for which in ("best", "last"))):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        run = f"  {row['run']}" if row["comparison"] else row["run"]
        cells = [
            run,
            *([row["name"] or ""] if named else []),
            row["method"],
            row["data"],
            str(row["seed"]),
            row["state"],
        ]
        rounds = f"{row['rounds']}" if row["rounds"] == row["of"] else f"{row['rounds']} of {row['of']}"
        figures = (shown(row[f"{which}_{name}"]) for name in measured for which in ("best", "last"))
        table.add_row(*cells, rounds, local_time(row["began"]), duration(row["seconds"]), *figures)
    return _drawn(table)


def show_text(found: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """The closing table's lines and a few more, the history, and what of the configuration is not the default."""
    lines = [closing_table(found["summary"], metrics).lstrip("\n")]
    began = f"{local_time(found['began'])}, trained for {duration(found['seconds'])}"
    more = {"began": began, "comparison": found["comparison"] and f"{found['comparison']}: {found['name']}"}
    more["ended by"] = found["stop_reason"]
    if found["best_round"] is not None:
        more["best round"] = str(found["best_round"])
    if found["kept"]:
        more["rounds kept"] = f"{', '.join(map(str, found['kept']))} (for --round of sample, export and eval)"
    more["MLflow run"] = found["mlflow_run"]
    if found["artifacts"]:
        folder = Path(found["artifacts"][0]).parent
        more["files"] = f"{folder}: {', '.join(Path(path).name for path in found['artifacts'])}"
    lines += [f"{label:<12} {value}" for label, value in more.items() if value]
    if found["history"]:
        lines += ["", _history(found["history"], metrics)]
    changed = yaml.safe_dump(found["changed"], sort_keys=False).rstrip()
    return "\n".join([*lines, "", "configuration, but for what is the default:", changed])


def jobs_text(jobs: "Sequence[Job]") -> str:
    """A line per job of a cluster; a command that has no room is cut."""
    rows = [(job.id, _state(job), *_times(job), _brief(job.command, job.id)) for job in jobs]
    headers = ("job", "state", "began", "took")
    taken = sum(max(map(len, column)) + 2 for column in zip(headers, *(row[:-1] for row in rows), strict=True))
    room = max(LEAST, _console().width - taken)
    table = _table(*headers[:-1])
    table.add_column(headers[-1], justify="right", no_wrap=True)
    table.add_column("command", no_wrap=True)
    for *cells, command in rows:
        table.add_row(*cells, command if len(command) <= room else f"{command[: room - 1]}…")
    return _drawn(table)


def _brief(command: str, job_id: str) -> str:
    """A job's command without the cluster's interpreter and the job's own name."""
    _, module, rest = command.partition(" -m rayfed ")
    return f"rayfed {rest}".replace(f" --id {job_id}", "") if module else command


def job_text(job: "Job") -> str:
    """One job of a cluster in full."""
    began, took = _times(job)
    about = {"job": job.id, "state": _state(job), "began": began, "took": took, "command": job.command}
    about |= {key.replace("_", " "): value for key, value in job.metadata.items()}
    if job.state in ("pending", "failed"):
        about["message"] = job.message.strip().partition("\n")[0]
    return "\n".join(f"{label:<20} {value}" for label, value in about.items())


def _state(job: "Job") -> str:
    return job.state if job.exit_code is None else f"{job.state} ({job.exit_code})"


def _times(job: "Job") -> tuple[str, str]:
    """When a job began, by a clock here, and for how long it ran, or runs."""
    if job.began is None:
        return "", ""
    until = job.ended or datetime.now().timestamp()
    return f"{datetime.fromtimestamp(job.began):%Y-%m-%d %H:%M}", duration(until - job.began)


def local_time(iso: str) -> str:
    """A time of the store, which is in UTC, as a clock here shows it."""
    return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M}"


def _history(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Metric]) -> str:
    """The rounds that were judged, or all, thinned to ROWS; the last one always."""
    names = [metric.name for metric in metrics if any(metric.name in row for row in rows)]
    judged = [row for row in rows if any(name in row for name in names)] or list(rows)
    step = -(-len(judged) // ROWS)
    chosen = judged[::-1][::step][::-1]
    columns = {name: name for name in names}
    columns |= {name: label for name, label in HISTORY.items() if any(name in row for row in rows)}
    table = _table()
    for header in ("round", *columns.values(), "MB up", "MB down"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in chosen:
        traffic = (shown(row[f"bytes_{way}"] / MB) for way in ("up", "down"))
        table.add_row(str(row["round"]), *(shown(row.get(name)) for name in columns), *traffic)
    left = len(rows) - len(chosen)
    return _drawn(table) + (f"\n({counted(left, 'more round')}: --json has them all)" if left else "")


def _table(*left: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in left:
        table.add_column(header, no_wrap=True)
    return table


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def _drawn(table: Table) -> str:
    console = _console()
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines())
