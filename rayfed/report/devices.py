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


def devices_csv(totals: Mapping[str, Any], counts: Sequence[Sequence[int]], path: Path) -> Path:
    """Save a row per device: its samples, then COLUMNS; `counts` [K, C] are its samples per class.

    Samples are left out where it is clients that hold them, each with several devices (FSL-GAN).
    """
    devices = len(totals["bytes"])
    samples = [sum(row) for row in counts] if len(counts) == devices else [""] * devices
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "samples", *COLUMNS])
        for device in range(devices):
            figures = (f"{totals[name][device]:.10g}" for name in COLUMNS.values())
            writer.writerow([device, samples[device], *figures])
    return path


def events_csv(events: Iterable[tuple[int, str]], path: Path) -> Path:
    """Save a row per event: the round, and what happened."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["round", "event"])
        writer.writerows(events)
    return path
