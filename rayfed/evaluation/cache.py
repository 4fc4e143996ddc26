"""Files kept between runs, whole or not there at all."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import platformdirs

from rayfed.errors import UserError


def locate(cache_dir: str | Path | None, kind: str, dataset_key: str, shape: tuple[int, ...], suffix: str) -> Path:
    """The file of one kind for one data set at one image shape (C, H, W); `cache_dir` none: the user's cache."""
    folder = Path(cache_dir or platformdirs.user_cache_dir("rayfed"))
    return folder / f"{kind}-{quote(dataset_key, safe='')}-{'x'.join(map(str, shape))}{suffix}"


def write(path: Path, data: bytes) -> None:
    """Write a file atomically; raises UserError where that cannot be done."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"{path}: the cache cannot be written ({error.strerror})") from None
