"""The samples of each class that a run has seen, round by round, as CSV and as a picture."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rayfed.report.pictures import History, figure_of, frame

SEEN_CLASS = "seen_class/"
"""How the names of these metrics begin in a history; the number of the class follows."""
NAMED = 20
"""Up to so many classes the picture has a legend."""
DASHES = ("-", "--", ":", "-.")
"""Of ten classes each, which take the ten colours in turn."""
Seen = Mapping[int, Sequence[int]]
"""round -> samples of each class seen so far"""


def seen_of(history: History) -> Seen:
    """What each round had seen, in the order of the classes' numbers, without the rounds before the first sample."""
    seen = {}
    for round, metrics in history:
        labels = sorted(int(name.removeprefix(SEEN_CLASS)) for name in metrics if name.startswith(SEEN_CLASS))
        if labels:
            seen[round] = [int(metrics[f"{SEEN_CLASS}{label}"]) for label in labels]
    return seen


def seen_csv(seen: Seen, classes: Sequence[str], path: Path) -> Path:
    """Save a row per round: its number, then the samples of each class, in columns named after the classes."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", *classes])
        writer.writerows([round, *counts] for round, counts in seen.items())
    return path


def seen_figure(seen: Seen, classes: Sequence[str], path: Path) -> Path:
    """Save the samples of each class against rounds, a line per class; beyond NAMED classes without their names."""
    figure = figure_of(8, 4.5)
    axes = frame(figure.add_subplot(), "Data seen of each class", "samples since the start")
    for number, counts in enumerate(zip(*seen.values(), strict=True)):
        style = DASHES[number // 10 % len(DASHES)]
        marker = "o" if len(seen) == 1 else ""
        axes.plot(list(seen), counts, f"C{number}{style}{marker}", label=classes[number], linewidth=1.6)
    if len(classes) <= NAMED:
        figure.legend(loc="outside right center", frameon=False)
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
    return path
