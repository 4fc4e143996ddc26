"""A working directory as the zip that a Ray job runs in."""

import logging
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

from rayfed.errors import UserError

LIMIT = DASHBOARD_CLIENT_MAX_SIZE
"""Bytes that a dashboard takes."""
MB = 2**20
QUIET = logging.getLogger("rayfed.packing")
QUIET.setLevel(logging.CRITICAL)  # Ray logs what the error says
LARGEST = 3
"""Files that are named where there is too much."""
EXCLUDES = (
    *(".git", ".venv", "venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "node_modules"),
    *("rayfed-runs", "mlruns", "mlartifacts", "*.db"),
    *("*.npz", "*.npy", "*.gz", "*.zip", "*.tar", "*.parquet", "*.pt", "*.pt2", "*.pth", "*.onnx", "*.safetensors"),
    "!/rayfed/data/assets/*",
)
"""As in a .gitignore: what is no code, runs, data and networks; but the data of a clone of rayfed."""


def pack(folder: Path, file: Path, always: Sequence[Path], excludes: Sequence[str] = ()) -> None:
    """Write a folder as a zip, without EXCLUDES, `excludes`, and what its .gitignore and .rayignore name.

    The files and folders of `always` (relative) are in it in any case. Raises UserError when it is more than Ray takes,
    as soon as that is known.
    """
    sizes: dict[str, int] = {}
    with ZipFile(file, "w", ZIP_DEFLATED, strict_timestamps=False) as package:

        def add(path: Path) -> None:
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in sizes:
                package.write(path, name)
                sizes[name] = package.getinfo(name).compress_size
                if file.stat().st_size >= LIMIT:
                    raise UserError(_too_much(folder, sizes))

        left_out = [_get_excludes(folder, [*EXCLUDES, *excludes])]
        _dir_travel(folder, left_out, add, include_gitignore=True, logger=QUIET)
        for each in always:
            for path in [folder / each, *sorted((folder / each).rglob("*"))]:
                add(path)


def _too_much(folder: Path, sizes: dict[str, int]) -> str:
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:LARGEST]
    named = ", ".join(f"{name} {sizes[name] / MB:.0f} MiB" for name in largest)
    return (
        f"{folder}: is sent to the cluster, and is more than the {LIMIT / MB:.0f} MiB that Ray takes (largest so far: "
        f"{named}); name what is not needed there in .rayignore, or begin in a smaller folder"
    )
