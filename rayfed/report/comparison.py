"""What a comparison says: its figures per run and its table in long format, from the runs' histories."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rayfed.report.numbers import throughput
from rayfed.report.pictures import History
from rayfed.tasks.base import Metric, primary

Histories = Mapping[str, Mapping[int, History]]
"""run -> seed -> (round, metrics) of its rounds so far."""
Throughput = Mapping[str, Mapping[int, float]]
"""run -> number of devices -> images per simulated second."""
SERIES = (
    *("sim_seconds", "sim_total_seconds", "seconds", "images", "images_per_s", "participants"),
    *("bytes_up", "bytes_down", "bytes_device_max"),
)
"""The metrics of every round that the JSON document holds, beside the task's, `joules` and those named `loss...`."""
FIGURES = (
    *("rounds", "best", "last", "sim_seconds", "sim_seconds_to_common", "bytes_device", "bytes_device_to_common"),
    *("images_per_sim_s", "images_per_s"),
)
"""What `Summary.figures` has of each run."""


@dataclass(frozen=True)
class Course:
    """One run with one seed at the rounds in which it was judged; arrays [n]."""

    rounds: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    """Simulated, since the start."""
    nbytes: npt.NDArray[np.float64]
    """Both ways over the busiest device's link, since the start."""
    values: npt.NDArray[np.float64]
    """Of the metric."""


@dataclass(frozen=True)
class Summary:
    """A comparison in figures.

    `metric` is the task's primary one that all runs have (None means that no run was judged); `common` is the best
    value of the run and seed that did worst: all others reached it. `figures`: run -> figure -> a value per seed, None
    where there is none. The figures are `rounds`; `best`, `last`; `sim_seconds` (simulated, in all),
    `sim_seconds_to_common`; `bytes_device` (both ways over the busiest device's link, in all),
    `bytes_device_to_common`; `images_per_sim_s`, `images_per_s` (wall clock).
    """

    metric: Metric | None
    common: float | None
    figures: Mapping[str, Mapping[str, Sequence[float | None]]]


def course(history: History, metric: Metric) -> Course:
    """The course of one run's metric; what is not finite is left out."""
    nbytes = np.cumsum([metrics.get("bytes_device_max", 0) for _, metrics in history])
    points = [
        (round, metrics["sim_total_seconds"], total, metrics[metric.name])
        for (round, metrics), total in zip(history, nbytes, strict=True)
        if np.isfinite(metrics.get(metric.name, np.nan))
    ]
    return Course(*np.array(points, float).reshape(-1, 4).T)


def summarise(histories: Histories, metrics: Sequence[Metric]) -> Summary:
    """The figures of every run and seed; `metrics` are the task's, the preferred first."""
    every = [history for seeds in histories.values() for history in seeds.values()]
    metric = primary(metrics, [[values for _, values in history] for history in every])
    common = None
    if metric:
        best = [metric.best(found.values) for history in every if (found := course(history, metric)).values.size]
        common = float(metric.worst(best)) if best else None
    figures = {}
    for run, seeds in histories.items():
        each = [_figures(history, metric, common) for history in seeds.values()]
        figures[run] = {name: [figure.get(name) for figure in each] for name in FIGURES}
    return Summary(metric, common, figures)


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean of the values there are, and their sample standard deviation; None without one, or two, of them."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None, float(np.std(known, ddof=1)) if len(known) > 1 else None


def document(histories: Histories, summary: Summary, metrics: Sequence[Metric]) -> dict[str, Any]:
    """All of it as JSON: per run `summary` (mean, spread and value per seed of each figure) and `series` per seed.

    A series is one value per round; null where a metric was not measured or is not finite.
    """
    every = [values for seeds in histories.values() for history in seeds.values() for _, values in history]
    measured = {name for values in every for name in values}
    others = sorted(name for name in measured if name.startswith("loss") or name == "joules")
    names = dict.fromkeys([*(metric.name for metric in metrics), *SERIES, *others])
    runs: dict[str, Any] = {}
    for run, seeds in histories.items():
        figures = {}
        for name, values in summary.figures[run].items():
            mean, spread = mean_and_spread(values)
            figures[name] = {"mean": mean, "spread": spread, "seeds": dict(zip(map(str, seeds), values, strict=True))}
        series = {str(seed): _series(history, names) for seed, history in seeds.items()}
        runs[run] = {"summary": figures, "series": series}
    return {"metric": summary.metric and asdict(summary.metric), "common": summary.common, "runs": runs}


def long_rows(histories: Histories, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """One row per run, seed and round in which it was judged.

    Columns: `run`, `seed`, `round`; each of the task's metrics (empty where not measured); and since the start
    `sim_seconds` (simulated), `wall_seconds`, `images`, `bytes_device` (both ways over the busiest device's link).
    """
    rows = []
    names = [metric.name for metric in metrics]
    for run, seeds in histories.items():
        for seed, history in seeds.items():
            totals = dict.fromkeys(("seconds", "images", "bytes_device_max"), 0.0)
            for round, values in history:
                totals = {name: total + values.get(name, 0) for name, total in totals.items()}
                if any(name in values for name in names):
                    row = {"run": run, "seed": seed, "round": round, **{name: values.get(name, "") for name in names}}
                    row |= {"sim_seconds": values["sim_total_seconds"], "wall_seconds": totals["seconds"]}
                    rows.append(
                        row | {"images": int(totals["images"]), "bytes_device": int(totals["bytes_device_max"])}
                    )
    return rows


def _figures(history: History, metric: Metric | None, common: float | None) -> dict[str, float]:
    """What there is of FIGURES for one run with one seed."""
    rounds = [metrics for round, metrics in history if round > 0]
    if not rounds:
        return {}
    images, simulated = sum(metrics["images"] for metrics in rounds), rounds[-1]["sim_total_seconds"]
    found = {
        "rounds": len(rounds),
        "sim_seconds": simulated,
        "bytes_device": sum(metrics["bytes_device_max"] for metrics in rounds),
        "images_per_sim_s": images / simulated if simulated else 0.0,
        "images_per_s": throughput(rounds),
    }
    if metric and common is not None and (judged := course(history, metric)).values.size:
        reached = metric.reaches(judged.values, common)
        found |= {"best": float(metric.best(judged.values)), "last": float(judged.values[-1])}
        found["sim_seconds_to_common"] = float(judged.seconds[reached][0])
        found["bytes_device_to_common"] = float(judged.nbytes[reached][0])
    return found


def _series(history: History, names: Iterable[str]) -> dict[str, list[float | None]]:
    rounds = [(round, measured) for round, measured in history if round > 0]
    series: dict[str, list[float | None]] = {"round": [round for round, _ in rounds]}
    for name in names:
        values = [measured.get(name, np.nan) for _, measured in rounds]
        series[name] = [value if np.isfinite(value) else None for value in values]
    return series
