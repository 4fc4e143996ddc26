"""A comparison's picture: the primary metric against rounds, time and bytes, and throughput against devices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter

from rayfed.report.comparison import Course, Histories, Summary, Throughput, course
from rayfed.report.pictures import figure_of, frame, say_not_measured


def comparison_figure(
    histories: Histories, summary: Summary, throughput: Throughput, path: str | Path, title: str
) -> Path:
    """Save the primary metric against rounds, simulated time and bytes per device, and throughput against devices.

    A line is the mean over seeds, its band the lowest to the highest seed; what has no data says so.
    """
    figure = figure_of(11, 8.5)
    figure.suptitle(title, fontsize=14)
    (by_round, by_time), (by_bytes, scaling) = figure.subplots(2, 2)
    metric = summary.metric
    judged = [[course(history, metric) for history in seeds.values()] if metric else [] for seeds in histories.values()]
    label = metric.label if metric else "metric"
    unit = f"{label} ({metric.detail})" if metric and metric.detail else label
    _draw_courses(frame(by_round, f"{label} against rounds", unit), judged, "rounds")
    _draw_courses(frame(by_time, f"{label} against simulated time", unit, "simulated seconds"), judged, "seconds")
    panel = frame(by_bytes, f"{label} against bytes per device", unit, "MB up and down")
    _draw_courses(panel, judged, "nbytes", 1e-6)
    _draw_throughput(frame(scaling, "Throughput", "images per simulated second", "devices"), throughput)
    handles = [scaling.plot([], [], **_style(index))[0] for index in range(len(histories))]
    figure.legend(handles, list(histories), loc="outside lower center", ncols=min(6, len(histories)), frameon=False)
    figure.savefig(path, dpi=120)
    return Path(path)


def _draw_courses(axes: Axes, courses: Sequence[Sequence[Course]], x: str, scale: float = 1) -> None:
    """The metric against another figure of the courses: at each measured round, over the seeds that got there."""
    for index, seeds in enumerate(courses):
        rounds = sorted({round for each in seeds for round in each.rounds})
        xs = [[getattr(each, x)[each.rounds == round] for each in seeds] for round in rounds]
        ys = [np.concatenate([each.values[each.rounds == round] for each in seeds]) for round in rounds]
        at = [float(np.concatenate(values).mean()) * scale for values in xs]
        axes.plot(at, [y.mean() for y in ys], marker="o", markersize=3.5, **_style(index))
        axes.fill_between(at, [y.min() for y in ys], [y.max() for y in ys], color=f"C{index}", alpha=0.18, lw=0)
    if not any(each.values.size for seeds in courses for each in seeds):
        say_not_measured(axes)


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
