"""Pictures of runs, drawn from plain arrays and saved as PNG. Matplotlib is imported by the first that is drawn."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from rayfed.errors import counted
from rayfed.evaluation.grid import grid
from rayfed.tasks.base import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS_WITH_NUMBERS = 40
"""Up to this many devices every cell of a heat map says its count."""
History = Sequence[tuple[int, Mapping[str, float]]]
"""(round, metrics) in order of rounds."""
Series = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""label -> (rounds, values)"""
PLAIN = "{x:,.10g}"
"""How a tick is labelled: in full, with thousands separators."""

warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)  # a name in another script shows as boxes


def save_picture(picture: np.ndarray, path: str | Path) -> Path:
    """Save a picture, uint8 [H, W] (grey) or [H, W, 3] (RGB), as PNG."""
    Image.fromarray(picture).save(path)
    return Path(path)


def sample_grid(images: np.ndarray, path: str | Path) -> Path:
    """Save images [N, C, H, W] uint8 as one nearly square grid; see `rayfed.evaluation.grid`."""
    return save_picture(grid(images), path)


def partition_heatmap(counts: np.ndarray, class_names: Sequence[str], path: str | Path) -> Path:
    """Save a heat map of counts [K, classes] int: images of each class on each device; zero stays white."""
    from matplotlib.ticker import MaxNLocator

    devices, classes = counts.shape
    numbered = devices <= ROWS_WITH_NUMBERS and classes <= 20
    height = min(2.2 + devices * (0.3 if numbered else 0.05), 14)
    figure = figure_of(min(2.5 + 0.62 * classes, 18), height)
    axes = figure.add_subplot()
    shown = np.ma.masked_equal(counts, 0)
    mesh = axes.imshow(shown, aspect="auto", cmap="viridis_r", vmin=0, interpolation="nearest")
    figure.colorbar(mesh, label="images", pad=0.02)
    axes.set_xticks(range(classes), class_names, rotation=40, ha="right", rotation_mode="anchor")
    axes.yaxis.set_major_locator(MaxNLocator(20, integer=True))
    axes.set_ylabel("device")
    axes.set_title(f"{counts.sum():,} images on {counted(devices, 'device')}")
    _separate(axes, devices, classes, numbered)
    if numbered:
        _write_numbers(axes, counts)
    figure.savefig(path, dpi=120)
    return Path(path)


def _separate(axes: "Axes", devices: int, classes: int, rows: bool) -> None:
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    if rows:
        axes.set_yticks(np.arange(devices + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white" if rows else "0.85", linewidth=1)
    axes.tick_params(which="minor", length=0)


def _write_numbers(axes: "Axes", counts: np.ndarray) -> None:
    for (device, label), count in np.ndenumerate(counts):
        if count:
            color = "white" if count > counts.max() / 2 else "black"
            axes.text(label, device, f"{count}", ha="center", va="center", color=color, fontsize=8)


def run_figure(history: History, metrics: Sequence[Metric], path: str | Path, title: str) -> Path:
    """Save a run's task metrics, losses, KL of the seen data and traffic against rounds; what has no data says so.

    Reads the task's `metrics`, each `loss_*`, `kl_seen` (nats), and `bytes_up`, `bytes_down` of each round, which it
    sums.
    """
    from matplotlib.ticker import StrMethodFormatter

    figure = figure_of(11, 7.5)
    figure.suptitle(title, fontsize=14)
    panels = figure.subplots(2, 2)
    first = [metric for metric in metrics if metric.label == metrics[0].label]
    judged = _series(history, {metric.name: metric.detail or metric.label for metric in first})
    direction = "lower" if metrics[0].lower_is_better else "higher"
    _panel(panels[0, 0], f"{metrics[0].label} ({direction} is better)", metrics[0].label, judged, marker="o")
    names = {name for _, row in history for name in row if name.startswith("loss")}
    losses = {name: "TEST" if name == "loss" else name.removeprefix("loss_").upper() for name in sorted(names)}
    _panel(panels[0, 1], "Losses", "loss, mean of the round", _series(history, losses))
    seen = _series(history, {"kl_seen": ""})
    _panel(panels[1, 0], "Data seen against the whole data", "KL divergence (nats)", seen)
    traffic = _series(history, {"bytes_up": "devices to server", "bytes_down": "server to devices"})
    total = {label: (rounds, np.cumsum(values) / 1e6) for label, (rounds, values) in traffic.items()}
    _panel(panels[1, 1], "Traffic since the start", "MB", total)
    panels[1, 1].yaxis.set_major_formatter(StrMethodFormatter(PLAIN))
    figure.savefig(path, dpi=120)
    return Path(path)


def sampling_figure(kl: Mapping[str, np.ndarray], samples: Mapping[str, np.ndarray], path: str | Path) -> Path:
    """Save FeGAN's figures 10 and 14 side by side: mean over seeds as a line, lowest to highest seed as a band.

    `kl`: label -> KL divergence (nats) of the data seen so far from the whole data [seeds, rounds].
    `samples`: label -> mean samples per class seen so far [seeds, rounds]. Rounds count from 1.
    """
    figure = figure_of(11, 4.2)
    left, right = figure.subplots(1, 2)
    _bands(left, "Data seen against the whole data", "KL divergence (nats)", kl)
    _bands(right, "Amount of data seen", "samples per class, mean", samples)
    figure.savefig(path, dpi=120)
    return Path(path)


def _series(history: History, names: Mapping[str, str]) -> Series:
    """The named metrics that were measured at all, under their labels."""
    found = {}
    for name, label in names.items():
        points = [(round, metrics[name]) for round, metrics in history if name in metrics]
        if np.isfinite([value for _, value in points]).any():
            rounds, values = zip(*points, strict=True)
            found[label] = np.array(rounds), np.array(values)
    return found


def _panel(axes: "Axes", title: str, unit: str, series: Series, marker: str = "") -> None:
    frame(axes, title, unit)
    for label, (rounds, values) in series.items():
        only = np.isfinite(values).sum() == 1
        axes.plot(rounds, values, label=label, linewidth=1.6, marker="o" if only else marker, markersize=4)
    if not series:
        say_not_measured(axes)
    elif any(series):
        axes.legend(edgecolor="none")


def _bands(axes: "Axes", title: str, unit: str, curves: Mapping[str, np.ndarray]) -> None:
    frame(axes, title, unit)
    for label, values in curves.items():
        rounds = np.arange(1, values.shape[1] + 1)
        (line,) = axes.plot(rounds, values.mean(axis=0), label=label, linewidth=1.8)
        axes.fill_between(rounds, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.18, lw=0)
    axes.legend(frameon=False)
    axes.set_ylim(bottom=0)


def figure_of(width: float, height: float) -> "Figure":
    """Inches, with room around the labels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))


def say_not_measured(axes: "Axes") -> None:
    """What a panel without data shows."""
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.5", size=13)
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.grid(visible=False)


def frame(axes: "Axes", title: str, unit: str, x: str = "round") -> "Axes":
    """Title, labels, a light grid and no box around them; gives the axes back."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(unit)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if x == "round":
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(StrMethodFormatter(PLAIN))
    return axes
