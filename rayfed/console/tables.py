"""What commands print when they are done: plain columns whose paths and commands can be copied from any terminal."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from rayfed.cluster.capacity import Ask, describe
from rayfed.errors import counted
from rayfed.report.numbers import duration, shown
from rayfed.tasks.base import Metric

MB = 1e6
WIDTH = 100
"""Columns where there is no terminal."""
WAYS = {"up": "up", "down": "down", "across": "between devices"}
"""Where bytes go, and in words."""
COUNTS = 8
"""Device counts side by side, which leave room for a run's name."""


def closing_table(summary: Mapping[str, Any], metrics: Sequence[Metric]) -> str:
    """A run's summary for people; `metrics` are its task's."""
    rows = {"run": f"{summary['run']} ({summary['status']}, {counted(summary['rounds'], 'round')})"}
    for index, metric in enumerate(metrics):
        if found := summary.get(metric.name):
            label = f"{metric.label} ({metric.detail})" if index and metric.detail else metric.label
            rows[label] = "   ".join(f"{name} {shown(value)}" for name, value in found.items())
    rows |= {name: shown(value) for name, value in summary.get("closing", {}).items()}
    if "images_per_s" in summary:
        up, down = (summary[f"bytes_{way}_per_round"] / MB for way in ("up", "down"))
        rows["images/s"] = f"{summary['images_per_s']:,.0f}"
        rows["per round"] = f"{up:,.2f} MB up, {down:,.2f} MB down"
    rows |= {name: value for name, value in summary.items() if str(value).endswith(".png")}
    for key, label in (("mlflow", "MLflow"), ("resume", "go on with")):
        if summary[key]:
            rows[label] = summary[key]
    return f"\n{_pairs(rows)}"


def dry_run_text(found: Mapping[str, Any]) -> str:
    """What a run would ask for, move and compute, for people."""
    actors = [describe(Ask(row["role"], row["count"], row["each"])) for row in found["actors"]]
    hosts = found["hosts"]
    rows = {"actors": ", ".join(actors)}
    if hosts["least"] < hosts["most"]:
        rows["device hosts"] = f"from {hosts['least']} to {hosts['most']}"
    rows["nodes"] = ", ".join(f"{count} {name}" for name, count in found["nodes"].items())
    if found["autoscaler"]:
        asked = [describe(Ask(row["role"], row["count"], row["each"])) for row in found["autoscaler"]]
        rows["of the autoscaler"] = ", ".join(asked)
    moved, taken = 0.0, 0.0
    for each in found["phases"]:
        rows |= _round_of(each)
        moved += each["rounds"] * sum(each[f"bytes_{way}"] for way in WAYS)
        taken += each["rounds"] * each["sim_seconds"]
    rows["the run"] = f"{counted(found['rounds'], 'round')}, {moved / MB:,.0f} MB, {duration(taken)}"
    return _pairs(rows)


def _round_of(phase: Mapping[str, Any]) -> dict[str, str]:
    """What a round of a phase moves and computes, and how long it takes."""
    a_round = f"a round of {phase['name']}" if phase["name"] else "a round"
    moves = [f"{phase[f'bytes_{way}'] / MB:,.2f} MB {words}" for way, words in WAYS.items() if phase[f"bytes_{way}"]]
    work = f"{shown(phase['flops_devices'] / 1e9)} GFLOP on {counted(int(phase['participants']), 'participant')}"
    return {
        f"{a_round} moves": ", ".join(moves) or "nothing",
        f"{a_round} computes": f"{work}, {shown(phase['images'])} images",
        f"{a_round} takes": f"{shown(phase['sim_seconds'])} s on the simulated devices",
    }


def comparison_closing(found: Mapping[str, Any]) -> str:
    """A comparison's document for people: its tables, then where the rest is and what goes on how."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    with console.capture() as tables:
        console.print(comparison_table(found))
        console.print()
        console.print(costs_table(found))
        for table in throughput_tables(found["throughput"]):
            console.print("\nsim. images/s by number of devices", style="bold")
            console.print(table)
    metric = found["metric"]
    judged = f"{metric['label']} in {metric['detail']}" if metric and metric["detail"] else metric and metric["label"]
    notes = [judged or "no run was judged", "sim.: on the simulated devices"]
    if (seeds := max(len(run["series"]) for run in found["runs"].values())) > 1:
        notes.append(f"mean of {seeds} seeds (best and last: ± std)")
    rows = {"comparison": f"{found['comparison']} ({found['status']})", "figure": found["figure"]}
    rows["as CSV"] = found["table"]
    if found["mlflow"]:
        rows["MLflow"] = found["mlflow"]
    for name, command in found["resume"].items():
        rows[f"{name} goes on with"] = command
    if found["without_result"]:
        rows["without result"] = "; ".join(found["without_result"])
    return f"\n{tables.get()}{'; '.join(notes)}\n\n{_pairs(rows)}"


def comparison_table(found: Mapping[str, Any]) -> Table:
    """One line per run: means over seeds, a task metric's with the standard deviation."""
    label = found["metric"]["label"] if found["metric"] else "metric"
    table = _one_line_per_run("rounds", f"{label}\nbest", f"{label}\nlast", "sim.\nimages/s", "wall\nimages/s")
    for name, run in found["runs"].items():
        figures = run["summary"]
        cells = _means(figures, "rounds", "best", "last", "images_per_sim_s", "images_per_s")
        for figure in ("best", "last"):
            if figures[figure]["spread"] is not None:
                cells[figure] += f" ± {shown(figures[figure]['spread'])}"
        table.add_row(name, *cells.values())
    return table


def costs_table(found: Mapping[str, Any]) -> Table:
    """One line per run: simulated time and bytes in all, and until the value that all runs reached."""
    label = found["metric"]["label"] if found["metric"] else "metric"
    goal = f"{label} {shown(found['common'])}"
    table = _one_line_per_run("sim.\nseconds", f"sim. s to\n{goal}", "MB per\ndevice", f"MB to\n{goal}")
    for name, run in found["runs"].items():
        seconds = _means(run["summary"], "sim_seconds", "sim_seconds_to_common")
        table.add_row(
            name, *seconds.values(), *_means(run["summary"], "bytes_device", "bytes_device_to_common", unit=MB).values()
        )
    return table


def _one_line_per_run(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _means(figures: Mapping[str, Any], *names: str, unit: float = 1) -> dict[str, str]:
    means = {name: figures[name]["mean"] for name in names}
    return {name: shown(None if mean is None else mean / unit) for name, mean in means.items()}


def throughput_tables(throughput: Mapping[str, Mapping[Any, float]]) -> list[Table]:
    """One line per run: images per simulated second by the number of devices, `-` where a run cannot have so many."""
    rates = {run: {int(count): rate for count, rate in found.items()} for run, found in throughput.items()}
    counts = sorted({count for found in rates.values() for count in found})
    tables = []
    for first in range(0, len(counts), COUNTS):
        side_by_side = counts[first : first + COUNTS]
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("run")
        for count in side_by_side:
            table.add_column(f"{count:,}", justify="right", no_wrap=True)
        for run, found in rates.items():
            table.add_row(run, *(shown(found.get(count)) for count in side_by_side))
        tables.append(table)
    return tables


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys, which are the headers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*("-" if value is None else _cell(value) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Names and what they stand for."""
    print(_pairs(pairs))


def _pairs(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows.items())


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)
