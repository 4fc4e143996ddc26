"""The README's picture of one round.

python docs/figures/architecture.py [FILE]
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

DRIVER, ACTOR, STORAGE, LINE = "#dbe9f6", "#fde8d0", "#e6efe0", "#3a3a3a"

BOXES = {
    "Driver": (0.3, 4.6, 2.9, 1.55, DRIVER),
    "Store": (0.3, 2.35, 1.35, 1.35, STORAGE),
    "MLflow": (1.85, 2.35, 1.35, 1.35, STORAGE),
    "GeneratorServer": (5.6, 4.6, 3.3, 1.55, ACTOR),
    "Scheduler": (5.6, 7.0, 3.3, 1.2, ACTOR),
    "Evaluator": (5.6, 0.45, 3.3, 1.2, ACTOR),
    "Ray's object store": (5.6, 2.35, 7.8, 1.35, STORAGE),
}
"""title -> left, bottom, width, height, color"""
TEXTS = {
    "Driver": "rayfed run:\nround, commit, track",
    "Store": "SQLite or\nPostgreSQL",
    "MLflow": "metrics,\nimages, model",
    "GeneratorServer": "the method's server half; the fleet\nthat sends calls, collects replies;\n"
    "6  the twin that times the round",
    "Scheduler": "who takes part, how much each does,\nwho holds which portion",
    "Evaluator": "draws images, takes their FID,\nbeside the training",
    "Ray's object store": "training images (one uint8 array)  ·  the round's models, put once\n"
    "states of the devices  ·  activations and gradients on their way between devices",
}
HOST = "runs devices one by one,\nany of them; with FSL-GAN\neach device lives on one"


def box(axes: Axes, x: float, y: float, width: float, height: float, color: str, title: str, text: str) -> None:
    shape = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.12", fc=color, ec=LINE, lw=1.1)
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height - 0.27, title, ha="center", va="center", fontsize=11, weight="bold")
    axes.text(x + width / 2, y + (height - 0.3) / 2, text, ha="center", va="center", fontsize=9, linespacing=1.3)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], both: bool = False) -> None:
    style = "<|-|>" if both else "-|>"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=13, color=LINE, lw=1.3, shrinkA=0, shrinkB=0)
    )


def label(axes: Axes, x: float, y: float, text: str, align: str = "center") -> None:
    axes.text(x, y, text, ha=align, va="center", fontsize=8.5, color="#202020", linespacing=1.25)


def hosts(axes: Axes) -> None:
    """Three device hosts behind each other, the first with its devices."""
    for shift in (0.3, 0.15, 0.0):
        box(axes, 10.9 + shift, 4.6 + shift, 2.2, 1.9, ACTOR, "DeviceHost" if not shift else "", "")
    axes.text(12.0, 5.8, HOST, ha="center", va="center", fontsize=8.5, linespacing=1.2)
    for column in range(4):
        for row in range(2):
            axes.plot(11.4 + 0.4 * column, 4.87 + 0.3 * row, "o", color="#c2703d", markersize=9)


def main(file: str = "docs/figures/architecture.png") -> None:
    figure = Figure(figsize=(11.6, 6.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 13.8), ylim=(0, 8.6))
    axes.axis("off")
    frame = FancyBboxPatch(
        (5.25, 0.2), 8.35, 8.2, "round,pad=0,rounding_size=0.15", fc="none", ec="#888888", ls=(0, (5, 4))
    )
    axes.add_patch(frame)
    axes.text(13.4, 8.15, "Ray", ha="right", va="center", fontsize=11, style="italic", color="#555555")
    for title, place in BOXES.items():
        box(axes, *place, title, TEXTS[title])
    hosts(axes)

    arrow(axes, (3.2, 5.75), (5.6, 5.75))
    label(axes, 4.25, 5.97, "1  round()")
    arrow(axes, (5.6, 5.0), (3.2, 5.0))
    label(axes, 4.25, 5.38, "7  commit: models,\nmetrics, states")
    arrow(axes, (7.25, 6.15), (7.25, 7.0), both=True)
    label(axes, 7.4, 6.58, "2  the group and its loads", "left")
    arrow(axes, (7.25, 4.6), (7.25, 3.7))
    label(axes, 7.4, 4.15, "3  models, once a round", "left")
    arrow(axes, (8.9, 5.75), (10.9, 5.75))
    label(axes, 9.9, 6.1, "4  calls,\nin batches")
    arrow(axes, (10.9, 5.0), (8.9, 5.0))
    label(axes, 9.9, 4.67, "5  models or feedback;\nthen the mean")
    arrow(axes, (12.0, 4.6), (12.0, 3.7), both=True)
    label(axes, 12.1, 4.15, "read; keep states", "left")
    arrow(axes, (0.97, 4.6), (0.97, 3.7))
    arrow(axes, (2.52, 4.6), (2.52, 3.7))
    label(axes, 1.75, 4.15, "8")
    axes.plot((4.15, 4.15), (4.8, 1.05), color=LINE, lw=1.3, solid_capstyle="round")
    arrow(axes, (4.15, 4.8), (3.2, 4.8))
    arrow(axes, (4.15, 1.05), (5.6, 1.05))
    label(
        axes,
        3.95,
        1.4,
        "9  every few rounds the generator goes out,\nits FID and 64 images come back\nwhen they are ready",
        "right",
    )
    figure.savefig(Path(file), dpi=110, facecolor="white")
    print(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
