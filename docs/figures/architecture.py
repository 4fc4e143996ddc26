"""The picture of one round in docs/architecture.md; its numbers are those of the steps there.

python docs/figures/architecture.py [FILE]
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

DRIVER, ACTOR, PART, STORAGE, LINE = "#dbe9f6", "#fde8d0", "#fff7ec", "#e6efe0", "#3a3a3a"

BOXES = {
    "Driver": (0.3, 5.75, 3.1, 1.6, DRIVER),
    "Callbacks": (0.3, 3.3, 3.1, 1.45, DRIVER),
    "Store": (0.3, 1.25, 1.45, 1.05, STORAGE),
    "MLflow": (1.95, 1.25, 1.45, 1.05, STORAGE),
    "Scheduler": (5.7, 8.2, 4.2, 1.15, ACTOR),
    "GeneratorServer": (5.7, 4.1, 4.2, 3.25, ACTOR),
    "Ray's object store": (5.7, 2.15, 5.4, 1.2, STORAGE),
    "State folder": (11.85, 2.15, 2.55, 1.2, STORAGE),
    "Evaluator": (5.7, 0.45, 4.2, 1.05, ACTOR),
}
"""title -> left, bottom, width, height, colour"""
TEXTS = {
    "Driver": "app/run.py opens the run,\nengine/driver.py drives it",
    "Callbacks": "the store's first, MLflow's,\nthe console's, your own",
    "Store": "SQLite or\nPostgreSQL",
    "MLflow": "metrics, images,\nnetwork",
    "Scheduler": "who takes part, how much each does;\nwith FSL-GAN who holds which portion",
    "Ray's object store": "the training images, one uint8 array\n"
    "the round's models, put once  ·  replies\nwhat devices send to devices",
    "State folder": "a file for each device's\nstate; commits name them",
    "Evaluator": "the task judges the generator:\nmetrics (FID) and pictures",
}
PARTS = {
    "the method's server half": "methods/: init, round",
    "the fleet and its ledger": "submits calls, collects replies, notes bytes and operations",
    "the twin": "6  replays the ledger: simulated seconds",
}
"""Within the GeneratorServer, from top to bottom."""
HOST = (
    "runs the method's device\nhalves, one at a time.\n"
    "Pooled: any host, any device.\nPinned (FSL-GAN): each\ndevice lives on one host."
)


def box(axes: Axes, x: float, y: float, width: float, height: float, color: str, title: str, text: str = "") -> None:
    shape = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.12", fc=color, ec=LINE, lw=1.1)
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height - 0.27, title, ha="center", va="center", fontsize=11, weight="bold")
    axes.text(x + width / 2, y + (height - 0.3) / 2, text, ha="center", va="center", fontsize=8.5, linespacing=1.3)


def part(axes: Axes, y: float, title: str, text: str) -> None:
    """A part of the GeneratorServer."""
    shape = FancyBboxPatch((5.85, y), 3.9, 0.8, "round,pad=0,rounding_size=0.1", fc=PART, ec="#a58a66", lw=0.9)
    axes.add_patch(shape)
    axes.text(7.8, y + 0.55, title, ha="center", va="center", fontsize=9, weight="bold")
    axes.text(7.8, y + 0.24, text, ha="center", va="center", fontsize=7.6)


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
        box(axes, 11.85 + shift, 4.1 + shift, 2.25, 2.75, ACTOR, "" if shift else "DeviceHost")
    axes.text(12.97, 5.62, HOST, ha="center", va="center", fontsize=7.8, linespacing=1.25)
    for column in range(5):
        for row in range(2):
            axes.plot(12.17 + 0.4 * column, 4.34 + 0.28 * row, "o", color="#c2703d", markersize=8)


def main(file: str = "docs/figures/architecture.png") -> None:
    figure = Figure(figsize=(12.4, 8.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 14.95), ylim=(0, 9.75))
    axes.axis("off")
    frame = FancyBboxPatch(
        (5.35, 0.2), 9.4, 9.35, "round,pad=0,rounding_size=0.15", fc="none", ec="#888888", ls=(0, (5, 4))
    )
    axes.add_patch(frame)
    axes.text(14.55, 9.25, "Ray actors", ha="right", va="center", fontsize=11, style="italic", color="#555555")
    axes.text(14.55, 8.9, "with --local: one process", ha="right", va="center", fontsize=8.5, color="#555555")
    for title, place in BOXES.items():
        box(axes, *place, title, TEXTS.get(title, ""))
    for number, (title, text) in enumerate(PARTS.items()):
        part(axes, 6.03 - 0.9 * number, title, text)
    hosts(axes)

    arrow(axes, (3.4, 7.0), (5.7, 7.0))
    label(axes, 4.5, 7.22, "1  round()")
    arrow(axes, (5.7, 6.1), (3.4, 6.1))
    label(axes, 4.5, 6.47, "7  checkpoint: state,\nmetrics, files' names")
    arrow(axes, (7.8, 7.35), (7.8, 8.2), both=True)
    label(axes, 7.95, 7.78, "2  the group and its loads", "left")
    arrow(axes, (7.8, 4.1), (7.8, 3.35))
    label(axes, 7.95, 3.72, "3  models, once a round", "left")
    arrow(axes, (9.9, 5.75), (11.85, 5.75))
    label(axes, 10.87, 6.1, "4  calls,\nin batches")
    arrow(axes, (11.85, 4.9), (9.9, 4.9))
    label(axes, 10.87, 4.5, "5  replies; then\ncheck and mean")
    arrow(axes, (12.97, 4.1), (12.97, 3.35), both=True)
    label(axes, 13.07, 3.72, "states", "left")
    arrow(axes, (10.5, 3.35), (11.85, 4.3))
    label(axes, 11.3, 3.68, "read", "left")
    arrow(axes, (1.85, 5.75), (1.85, 4.75))
    label(axes, 2.0, 5.25, "8", "left")
    arrow(axes, (1.02, 3.3), (1.02, 2.3))
    arrow(axes, (2.67, 3.3), (2.67, 2.3))
    label(axes, 1.12, 2.8, "commit", "left")
    label(axes, 2.77, 2.8, "queue", "left")
    axes.plot((4.3, 4.3), (5.9, 0.97), color=LINE, lw=1.3, solid_capstyle="round")
    arrow(axes, (4.3, 5.9), (3.4, 5.9))
    arrow(axes, (4.3, 0.97), (5.7, 0.97))
    evaluation = "9  every few rounds the generator goes out; its\nmetrics and pictures come back when ready"
    label(axes, 4.1, 0.62, evaluation, "right")
    figure.savefig(Path(file), dpi=110, facecolor="white")
    print(file)


if __name__ == "__main__":
    main(*sys.argv[1:])
