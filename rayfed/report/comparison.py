"""What a comparison says: its figures per run, its table in long format, and its picture, from the runs' histories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter

from rayfed.report.pictures import History

Histories = Mapping[str, Mapping[int, History]]
"""run -> seed -> (round, metrics) of its rounds so far."""
Throughput = Mapping[str, Mapping[int, float]]
"""run -> number of devices -> images per simulated second."""
FIDS = {"fid": "Inception", "fid_classifier": "classifier"}
SERIES = (
    *FIDS,
    *("sim_seconds", "sim_total_seconds", "seconds", "images", "images_per_s", "participants"),
    *("bytes_up", "bytes_down", "bytes_device_max", "loss_g", "loss_d"),
)
"""The metrics of every round that the JSON document holds."""
FIGURES = (
    *("rounds", "fid_best", "fid_last", "sim_seconds", "sim_seconds_to_common_fid"),
    *("bytes_device", "images_per_sim_s", "images_per_s"),
)
"""What `Summary.figures` has of each run."""


@dataclass(frozen=True)
class Course:
    """One run with one seed at the rounds in which its FID was measured; arrays [n]."""

    rounds: np.ndarray
    seconds: np.ndarray
    """Simulated, since the start."""
    nbytes: np.ndarray
    """Both ways over the busiest device's link, since the start."""
    fids: np.ndarray


@dataclass(frozen=True)
class Summary:
    """A comparison in figures.

    `fid` names the metric that all runs have (None: no FID was measured); `common_fid` is the best FID of the run and
    seed that did worst: all others reached it. `figures`: run -> figure -> a value per seed, None where there is none.
    The figures are `rounds`; `fid_best`, `fid_last`; `sim_seconds` (simulated, in all), `sim_seconds_to_common_fid`;
    `bytes_device` (both ways over the busiest device's link, in all); `images_per_sim_s`, `images_per_s` (wall clock).
    """

    fid: str | None
    common_fid: float | None
    figures: Mapping[str, Mapping[str, Sequence[float | None]]]


def course(history: History, fid: str) -> Course:
    """The course of one run's FID; what is not finite is left out."""
    nbytes = np.cumsum([metrics.get("bytes_device_max", 0) for _, metrics in history])
    points = [
        (round, metrics["sim_total_seconds"], total, metrics[fid])
        for (round, metrics), total in zip(history, nbytes, strict=True)
        if np.isfinite(metrics.get(fid, np.nan))
    ]
    return Course(*np.array(points, float).reshape(-1, 4).T)


def summarise(histories: Histories) -> Summary:
    """The figures of every run and seed."""
    every = [history for seeds in histories.values() for history in seeds.values()]
    fid = _common_metric(every)
    best = [found.fids.min() for history in every if fid and (found := course(history, fid)).fids.size]
    common = float(max(best)) if best else None
    figures = {}
    for run, seeds in histories.items():
        each = [_figures(history, fid, common) for history in seeds.values()]
        figures[run] = {name: [figure.get(name) for figure in each] for name in FIGURES}
    return Summary(fid, common, figures)


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean of the values there are, and their sample standard deviation; None without one, or two, of them."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None, float(np.std(known, ddof=1)) if len(known) > 1 else None


def document(histories: Histories, summary: Summary) -> dict[str, Any]:
    """All of it as JSON: per run `summary` (mean, spread and value per seed of each figure) and `series` per seed.

    A series is one value per round; null where a metric was not measured or is not finite.
    """
    runs: dict[str, Any] = {}
    for run, seeds in histories.items():
        figures = {}
        for name, values in summary.figures[run].items():
            mean, spread = mean_and_spread(values)
            figures[name] = {"mean": mean, "spread": spread, "seeds": dict(zip(map(str, seeds), values, strict=True))}
        series = {str(seed): _series(history) for seed, history in seeds.items()}
        runs[run] = {"summary": figures, "series": series}
    return {"fid": summary.fid, "common_fid": summary.common_fid, "runs": runs}


def long_rows(histories: Histories) -> list[dict[str, Any]]:
    """One row per run, seed and round in which an FID was measured.

    Columns: `run`, `seed`, `round`; `fid` and `fid_classifier` (empty where not measured); and since the start
    `sim_seconds` (simulated), `wall_seconds`, `images`, `bytes_device` (both ways over the busiest device's link).
    """
    rows = []
    for run, seeds in histories.items():
        for seed, history in seeds.items():
            totals = dict.fromkeys(("seconds", "images", "bytes_device_max"), 0.0)
            for round, metrics in history:
                totals = {name: total + metrics.get(name, 0) for name, total in totals.items()}
                if FIDS.keys() & metrics:
                    row = {"run": run, "seed": seed, "round": round, **{fid: metrics.get(fid, "") for fid in FIDS}}
                    row |= {"sim_seconds": metrics["sim_total_seconds"], "wall_seconds": totals["seconds"]}
                    rows.append(
                        row | {"images": int(totals["images"]), "bytes_device": int(totals["bytes_device_max"])}
                    )
    return rows


def comparison_figure(
    histories: Histories, summary: Summary, throughput: Throughput, path: str | Path, title: str
) -> Path:
    """Save FID against rounds, simulated time and bytes per device, and throughput against the number of devices.

    A line is the mean over seeds, its band the lowest to the highest seed; what has no data says so.
    """
    figure = Figure(figsize=(11, 8.5), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    figure.suptitle(title, fontsize=14)
    (by_round, by_time), (by_bytes, scaling) = figure.subplots(2, 2)
    fid = summary.fid
    courses = [[course(history, fid) for history in seeds.values()] if fid else [] for seeds in histories.values()]
    unit = f"FID ({FIDS[fid]})" if fid else "FID"
    _draw_courses(_framed(by_round, "FID against rounds", "round", unit), courses, "rounds")
    _draw_courses(_framed(by_time, "FID against simulated time", "simulated seconds", unit), courses, "seconds")
    _draw_courses(_framed(by_bytes, "FID against bytes per device", "MB up and down", unit), courses, "nbytes", 1e-6)
    _draw_throughput(_framed(scaling, "Throughput", "devices", "images per simulated second"), throughput)
    handles = [scaling.plot([], [], **_style(index))[0] for index in range(len(histories))]
    figure.legend(handles, list(histories), loc="outside lower center", ncols=min(6, len(histories)), frameon=False)
    figure.savefig(path, dpi=120)
    return Path(path)


def _common_metric(histories: Sequence[History]) -> str | None:
    """Inception's FID if every run that was judged has it, else the classifier's."""
    measured = [set().union(*(metrics for _, metrics in history)) & FIDS.keys() for history in histories]
    judged = [names for names in measured if names]
    return next((fid for fid in FIDS if judged and all(fid in names for names in judged)), None)


def _figures(history: History, fid: str | None, common: float | None) -> dict[str, float]:
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
        "images_per_s": images / sum(metrics["seconds"] for metrics in rounds),
    }
    if fid and (judged := course(history, fid)).fids.size:
        reached = judged.seconds[judged.fids <= common]
        found |= {"fid_best": float(judged.fids.min()), "fid_last": float(judged.fids[-1])}
        found["sim_seconds_to_common_fid"] = float(reached[0])
    return found


def _series(history: History) -> dict[str, list[float | None]]:
    rounds = [(round, metrics) for round, metrics in history if round > 0]
    series: dict[str, list[float | None]] = {"round": [round for round, _ in rounds]}
    for name in SERIES:
        values = [metrics.get(name, np.nan) for _, metrics in rounds]
        series[name] = [value if np.isfinite(value) else None for value in values]
    return series


def _draw_courses(axes: Axes, courses: Sequence[Sequence[Course]], x: str, scale: float = 1) -> None:
    """FID against another figure of the courses: at each measured round, over the seeds that got there."""
    for index, seeds in enumerate(courses):
        rounds = sorted({round for each in seeds for round in each.rounds})
        xs = [[getattr(each, x)[each.rounds == round] for each in seeds] for round in rounds]
        ys = [np.concatenate([each.fids[each.rounds == round] for each in seeds]) for round in rounds]
        at = [float(np.concatenate(values).mean()) * scale for values in xs]
        axes.plot(at, [y.mean() for y in ys], marker="o", markersize=3.5, **_style(index))
        axes.fill_between(at, [y.min() for y in ys], [y.max() for y in ys], color=f"C{index}", alpha=0.18, lw=0)
    if not any(each.fids.size for seeds in courses for each in seeds):
        _not_measured(axes)


def _draw_throughput(axes: Axes, throughput: Throughput) -> None:
    for index, rates in enumerate(throughput.values()):
        axes.plot(list(rates), list(rates.values()), marker="o", markersize=4, **_style(index))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({count for rates in throughput.values() for count in rates})))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(ScalarFormatter())


def _style(run: int) -> dict[str, Any]:
    """The look of a run's line; where two are the same, the dashes of one lie on the other."""
    return {"color": f"C{run}", "linestyle": "--" if run % 2 else "-", "linewidth": 1.8, "zorder": 2 + run % 2}


def _framed(axes: Axes, title: str, xlabel: str, ylabel: str) -> Axes:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _not_measured(axes: Axes) -> None:
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.5", size=13)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.grid(visible=False)
