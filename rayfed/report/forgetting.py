"""What a classifier knows of each class, evaluation by evaluation, as a picture: forgetting shows as dark gaps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rayfed.report.pictures import History, figure_of

ACCURACY_CLASS = "accuracy_class_"
"""How the names of these metrics begin in a history; the number of the class follows."""
NUMBERED = 25
"""Up to so many evaluations every cell says its accuracy."""
Known = Mapping[int, Mapping[int, float]]
"""round -> class -> accuracy"""


def known_of(history: History) -> Known:
    """The accuracy of each class at each evaluation; empty for a task that has none."""
    known = {}
    for round, metrics in history:
        found = {int(k.removeprefix(ACCURACY_CLASS)): v for k, v in metrics.items() if k.startswith(ACCURACY_CLASS)}
        if found:
            known[round] = found
    return known


def forgetting_figure(known: Known, classes: Sequence[str], path: Path) -> Path:
    """Save a heat map: a row per class, a column per evaluation, the accuracy on the class's test images."""
    shares = np.array([[found.get(label, np.nan) for found in known.values()] for label in range(len(classes))])
    figure = figure_of(min(3 + 0.4 * len(known), 16), min(1.6 + 0.3 * len(classes), 14))
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, aspect="auto", cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    figure.colorbar(image, label="% of the test images right", pad=0.02)
    axes.set_yticks(range(len(classes)), classes)
    step = max(1, len(known) // 20)
    axes.set_xticks(range(0, len(known), step), [str(round) for round in list(known)[::step]])
    axes.set(xlabel="round", title="What is known of each class")
    if len(known) <= NUMBERED and len(classes) <= 20:
        for (label, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                colour = "black" if share > 0.5 else "white"
                axes.text(column, label, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=7)
    figure.savefig(path, dpi=120)
    return path
