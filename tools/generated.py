"""Files that a tool writes and that are committed: `make check` says when one is not current."""

import sys
from collections.abc import Sequence
from pathlib import Path


def write_or_check(file: Path, text: str, arguments: Sequence[str]) -> int:
    """Write a file, or with `--check` among the arguments see whether it is current; gives the exit code."""
    if "--check" not in arguments:
        file.write_text(text)
    elif not file.is_file() or file.read_text() != text:
        print(f"{file.parent.name}/{file.name} is not current; `make docs` writes it", file=sys.stderr)
        return 1
    return 0
