"""A run's events as CSV."""

import csv
from collections.abc import Iterable
from pathlib import Path

from rayfed.events import Event


def events_csv(events: Iterable[tuple[int, Event]], path: Path) -> Path:
    """Save a row per event: the round, and what happened."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "event"])
        writer.writerows((round, event.sentence()) for round, event in events)
    return path
