"""A table of clients and their devices, from CSV or YAML, and one line for whatever is wrong with it.

CSV has one device a line and the columns of `COLUMNS`; those after NEEDED may be left out or blank. YAML says the
same as `clients: {CLIENT: [{device: NAME, capacity: ..., time_factor: ...}, ...]}`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rayfed.config.clients import Client, Device
from rayfed.config.reading import read, validate
from rayfed.errors import UserError, counted

NEEDED = ("client", "device", "capacity", "time_factor")
COLUMNS = (*NEEDED, "up_mbps", "down_mbps", "ray_cpus", "ray_gpus", "ray_memory")
Row = tuple[str, str, dict[str, Any]]
"""Where a device stands, its client, and its other cells."""


def load_table(path: str | Path) -> list[Client]:
    """The clients of a .csv, .yaml or .yml file, in its order; raises UserError with one line."""
    path = Path(path)
    if path.suffix not in (".csv", ".yaml", ".yml"):
        raise UserError(f"{path}: a device table ends in .csv, .yaml or .yml")
    clients: dict[str, dict[str, Device]] = {}
    for where, client, cells in _csv(path) if path.suffix == ".csv" else _yaml(path):
        place = f"{path}, {where}"
        device = _device(place, cells)
        devices = clients.setdefault(client, {})
        if device.name in devices:
            raise UserError(f"{place}: client {client} has a device {device.name} already")
        devices[device.name] = device
    if not clients:
        raise UserError(f"{path}: the table is empty; it needs a device at least")
    return [Client(name=name, devices=tuple(devices.values())) for name, devices in clients.items()]


def _device(place: str, cells: dict[str, Any]) -> Device:
    name = cells.pop("device", None)
    if name in (None, ""):
        raise UserError(f"{place}: device: missing")
    _check_name(f"{place}: device", name)
    try:
        return validate(Device, cells | {"name": str(name)})
    except UserError as error:
        raise UserError(f"{place} (device {name}): {error}") from None


def _check_name(place: str, name: object) -> None:
    """YAML reads no, 12:30 or 1.50 as something else than what is written."""
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise UserError(f"{place}: {name!r} is not a name; put it into quotes")


def _csv(path: Path) -> Iterator[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not lines:
        return
    header = [name.strip() for name in lines[0][1]]
    _check_header(path, header)
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}, line {line}: {counted(len(row), 'cell')} under {counted(len(header), 'column')}")
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True) if cell.strip()}
        if "client" not in cells:
            raise UserError(f"{path}, line {line}: client: missing")
        numbers = {name: _number(cells[name]) for name in COLUMNS[2:] if name in cells}
        yield f"line {line}", cells.pop("client"), cells | numbers


def _check_header(path: Path, header: list[str]) -> None:
    for name in NEEDED:
        if name not in header:
            raise UserError(f"{path}, line 1: no column {name}; the columns are {', '.join(COLUMNS)}")
    for name in header:
        if name not in COLUMNS:
            raise UserError(f"{path}, line 1: unknown column {name!r}; the columns are {', '.join(COLUMNS)}")
        if header.count(name) > 1:
            raise UserError(f"{path}, line 1: column {name} is there twice")


def _number(cell: str) -> float | str:
    """A cell that is no number stays as it is, for pydantic to refuse."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _yaml(path: Path) -> Iterator[Row]:
    tree = read(path)
    if unknown := [key for key in tree if key != "clients"]:
        raise UserError(f"{path}: {unknown[0]}: unknown key; a device table has one, clients")
    clients = tree.get("clients") or {}
    if not isinstance(clients, dict):
        raise UserError(f"{path}: clients: must be a section of `CLIENT: [DEVICE, ...]`")
    for client, devices in clients.items():
        _check_name(f"{path}: clients", client)
        if not isinstance(devices, list) or not devices or not all(isinstance(cells, dict) for cells in devices):
            raise UserError(
                f"{path}: clients.{client}: must be a list of devices, each {{device: NAME, capacity: ..., "
                "time_factor: ...}"
            )
        for index, cells in enumerate(devices, 1):
            if "name" in cells:
                raise UserError(f"{path}, client {client}, row {index}: name: unknown key; did you mean device?")
            yield f"client {client}, row {index}", str(client), {str(key): value for key, value in cells.items()}
