"""A partition that a file says: a CSV with a row for each sample that a device holds."""

from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rayfed.config import csvfile
from rayfed.data.partition import Indices
from rayfed.errors import UserError, shown

COLUMNS = ("sample", "device")
DIGITS = 18
"""Of a number that fits into an int64 for certain."""


class Rows(NamedTuple):
    """The file's rows, three int64 [n]: the number of the line, of the sample and of the device."""

    lines: Indices
    samples: Indices
    devices: Indices


def read(path: Path, positions: Indices, count: int) -> tuple[list[Indices], int]:
    """For each of `count` devices the sorted indices (int64 [n_k]) of its training images; how many rows are left out.

    `positions` gives for each sample's number the index of the training image, or -1 for one that is held out for the
    test, whose rows are left out. Raises UserError, with the line, for a number that no sample or no device has and for
    a row that is there twice, and for a device that holds no training image.
    """
    rows = _rows(path, len(positions), count)
    _check_devices(path, rows, count)
    _check_repeated(path, rows, count)
    indices = positions[rows.samples]
    kept = indices >= 0
    indices, devices = indices[kept], rows.devices[kept]
    _check_empty(path, rows, np.bincount(devices, minlength=count))
    order = np.lexsort((indices, devices))
    return np.split(indices[order], np.searchsorted(devices[order], np.arange(1, count))), int(np.sum(~kept))


def _rows(path: Path, samples: int, count: int) -> Rows:
    flat = array("q")
    for line, cells in csvfile.rows(path, COLUMNS, COLUMNS):
        sample, device = _number(cells["sample"]), _number(cells["device"])
        if not 0 <= sample < samples:
            told = shown(cells["sample"])
            raise UserError(f"{path}, line {line}: sample = {told}: must be a sample's number, 0 to {samples - 1}")
        if device < 0:
            told = shown(cells["device"])
            raise UserError(f"{path}, line {line}: device = {told}: must be a device's number, 0 to {count - 1}")
        flat.extend((line, sample, device))
    return Rows(*np.array(flat, dtype=np.int64).reshape(-1, 3).T)


def _number(cell: str) -> int:
    """-1 for what is none."""
    return int(cell) if cell.isdecimal() and len(cell) <= DIGITS else -1


def _check_devices(path: Path, rows: Rows, count: int) -> None:
    beyond = np.flatnonzero(rows.devices >= count)
    if beyond.size:
        line, device = rows.lines[beyond[0]], rows.devices[beyond[0]]
        raise UserError(
            f"{path}, line {line}: device = {device}: with devices.count = {count} it must be 0 to {count - 1}; "
            f"devices.count = {rows.devices.max() + 1} fits the file"
        )


def _check_repeated(path: Path, rows: Rows, count: int) -> None:
    pairs = rows.samples * count + rows.devices
    _, first = np.unique(pairs, return_index=True)
    if len(first) < len(pairs):
        again = np.setdiff1d(np.arange(len(pairs)), first)[0]
        line, before = rows.lines[again], rows.lines[np.argmax(pairs == pairs[again])]
        raise UserError(
            f"{path}, line {line}: sample {rows.samples[again]} is on device {rows.devices[again]} already, by line "
            f"{before}; leave one of them out"
        )


def _check_empty(path: Path, rows: Rows, sizes: Indices) -> None:
    """`sizes`: for each device how many training images it holds."""
    if sizes.all():
        return
    empty, named = int(np.argmin(sizes)), int(rows.devices.max(initial=-1)) + 1
    only = "no sample but what is held out for the test" if empty in rows.devices else "no sample"
    fits = f"; devices.count = {named} fits the file" if 0 < named <= empty else ""
    every = f"each of 0 to {len(sizes) - 1} must hold a training image"
    raise UserError(f"{path}: device {empty} holds {only}; {every}{fits}")
