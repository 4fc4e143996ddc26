"""The rows of a CSV file under a header, and one line for whatever is wrong with it."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from rayfed.errors import UserError, counted


def rows(path: Path, columns: Sequence[str], needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The line number of each row that is not blank, and its cells by column, without the space around them.

    The header names `columns`, all of `needed` among them, in any order. Raises UserError, with the line, for another
    header and for a row that does not fit it.
    """
    header: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for row in reader:
                cells = list(map(str.strip, row))
                if not any(cells):
                    continue
                if not header:
                    _check_header(f"{path}, line {reader.line_num}", cells, columns, needed)
                    header = cells
                elif len(cells) != len(header):
                    given, needed = counted(len(cells), "cell"), counted(len(header), "column")
                    raise UserError(f"{path}, line {reader.line_num}: {given} under {needed}")
                else:
                    yield reader.line_num, dict(zip(header, cells, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _check_header(place: str, header: list[str], columns: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in header:
            raise UserError(f"{place}: no column {name}; the columns are {', '.join(columns)}")
    for name in header:
        if name not in columns:
            raise UserError(f"{place}: unknown column {name!r}; the columns are {', '.join(columns)}")
        if header.count(name) > 1:
            raise UserError(f"{place}: column {name} is there twice")
