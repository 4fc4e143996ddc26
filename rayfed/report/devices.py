"""What each device did on the twin, as CSV."""

import csv
from collections.abc import Mapping, Sequence
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


def devices_csv(totals: Mapping[str, Any], names: Sequence[str], samples: Sequence[int], path: Path) -> Path:
    """Save a row per device: its name and its samples, then COLUMNS.

    Where a client has several devices the samples are the client's, and the devices' cells are empty.
    """
    held: Sequence[int | str] = samples if len(samples) == len(names) else [""] * len(names)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "samples", *COLUMNS])
        for number, device in enumerate(zip(names, held, strict=True)):
            figures = (f"{totals[name][number]:.10g}" for name in COLUMNS.values())
            writer.writerow([*device, *figures])
    return path
