"""What each device did on the twin, and what happened to devices, as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = {
    "computed_s": "computed",
    "sent_s": "sent",
    "waited_s": "waited",
    "link_bytes": "bytes",
    "rounds_missed": "missed",
}
"""column -> the name in a commit's facts: simulated seconds of the rounds the device had a part in, bytes, rounds."""


def devices_csv(totals: Mapping[str, Any], devices: Sequence[tuple[int | str, int | str]], path: Path) -> Path:
    """Save a row per device: its number or name and its samples, as given, then COLUMNS.

    FSL-GAN's devices have names, and no samples: those are the clients'.
    """
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "samples", *COLUMNS])
        for number, device in enumerate(devices):
            figures = (f"{totals[name][number]:.10g}" for name in COLUMNS.values())
            writer.writerow([*device, *figures])
    return path


def events_csv(events: Iterable[tuple[int, str]], path: Path) -> Path:
    """Save a row per event: the round, and what happened."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "event"])
        writer.writerows(events)
    return path
