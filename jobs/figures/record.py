"""A figure and its table as an MLflow run of the experiment `rayfed-figures`, beside the runs of the runs folder."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rayfed.config import RunConfig, Tracking
from rayfed.tracking import Tracker


def record(name: str, figure: Path, table: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> None:
    """Print the table, write it as CSV beside the figure, and log both; rows are dicts with the same keys."""
    runs = Path(RunConfig.model_fields["runs_dir"].default).absolute()
    runs.mkdir(parents=True, exist_ok=True)
    path = runs / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    show(table)
    tracker = Tracker(
        Tracking(experiment="rayfed-figures"),
        f"sqlite:///{runs / 'mlflow.db'}",
        str(runs / "artifacts"),
        name,
        params,
        {},
    )
    tracker.log_file(figure)
    tracker.log_file(path)
    if unsent := tracker.close("FINISHED"):
        print(unsent)
    print(f"figure  {figure}\ntable   {path}\nMLflow  {tracker.look()}")


def show(table: Sequence[Mapping[str, Any]]) -> None:
    """Plain columns."""
    rows = [[_cell(value) for value in row.values()] for row in table]
    header = list(table[0])
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
