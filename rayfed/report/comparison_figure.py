"""A comparison's picture: the primary metric against rounds, time and bytes, and throughput against devices."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from rayfed.report.comparison import Course, Histories, Summary, Throughput, course
from rayfed.report.pictures import PLAIN, figure_of, frame, say_not_measured

WIDTH, HEIGHT = 11, 8.5
"""Inches."""
ENTRY, LETTER = 0.75, 0.09
"""Inches that a run takes in the legend: its line with the gaps, and each letter of its name."""
DIGIT = 0.02
"""The width of a digit of a tick's label, as a share of its axis."""
STEPS = (1, 2, 2.5, 5, 10)
"""Between evenly spaced ticks, times a power of ten."""


def comparison_figure(
    histories: Histories, summary: Summary, throughput: Throughput, path: str | Path, title: str
) -> Path:
    """Save the primary metric against rounds, simulated time and bytes per device, and throughput against devices.

    A line is the mean over seeds, its band the lowest to the highest seed; what has no data says so.
    """
    figure = figure_of(WIDTH, HEIGHT)
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
    for axes in (by_time, by_bytes):
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    unit = "images per simulated second (log scale)"
    _draw_throughput(frame(scaling, "Throughput", unit, "devices (log scale)"), throughput)
    handles = [scaling.plot([], [], **_style(index))[0] for index in range(len(histories))]
    columns = int(WIDTH / (ENTRY + LETTER * max(map(len, histories))))
    figure.legend(handles, list(histories), loc="outside lower center", ncols=max(1, min(6, columns)), frameon=False)
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
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter(PLAIN))
    if not any(each.values.size for seeds in courses for each in seeds):
        say_not_measured(axes)


def _draw_throughput(axes: Axes, throughput: Throughput) -> None:
    for index, rates in enumerate(throughput.values()):
        axes.plot(list(rates), list(rates.values()), marker="o", markersize=4, **_style(index))
    counts = sorted({count for rates in throughput.values() for count in rates})
    if not counts:
        say_not_measured(axes)
        return
    if len(counts) == 1:
        counts = [count for count in (counts[0] // 2, counts[0], 2 * counts[0]) if count]
    across = _limits(counts)
    up = _limits([rate for rates in throughput.values() for rate in rates.values()])
    axes.set(xscale="log", yscale="log", xlim=across, ylim=up)
    axes.xaxis.set_major_locator(FixedLocator(_apart(counts, *across)))
    axes.yaxis.set_major_locator(FixedLocator(_readable(*up)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter(PLAIN))


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis: the lowest and the highest value with at least a tenth of each around them."""
    lowest, highest = min(values), max(values)
    room = max(1.1, (highest / lowest) ** 0.05)
    return lowest / room, highest * room


def _apart(counts: Sequence[int], low: float, high: float) -> list[int]:
    """The lowest and the highest count, and those in between whose labels touch no other.

    `low` and `high` are the ends of the logarithmic axis.
    """

    def touch(left: int, right: int) -> bool:
        return math.log(right / left) < DIGIT * len(f" {right:,}") * math.log(high / low)

    kept = [counts[0]]
    for count in counts[1:-1]:
        if not touch(kept[-1], count) and not touch(count, counts[-1]):
            kept.append(count)
    return [*kept, counts[-1]]


def _readable(low: float, high: float) -> list[float]:
    """Three ticks or more between two values: powers of ten, with twice and five times them where there is room.

    Evenly spaced ones where fewer than three of those lie in between.
    """
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    steps = (1, 2, 5) if len(powers) <= 6 else (1,)
    ticks = [step * power for power in powers for step in steps if low <= step * power <= high]
    if len(ticks) < 3:
        ticks = [tick for tick in MaxNLocator(8, steps=STEPS).tick_values(low, high) if low <= tick <= high]
    return ticks


def _style(run: int) -> dict[str, Any]:
    """The look of a run's line; where two are the same, the dashes of one lie on the other."""
    dashed = (run + run // 10) % 2  # the eleventh run has the colour of the first
    return {"color": f"C{run}", "linestyle": "--" if dashed else "-", "linewidth": 1.8, "zorder": 2 + dashed}
