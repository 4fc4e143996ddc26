"""Where the files of devices' states lie: a folder of this machine, or one behind an fsspec URL (object storage)."""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol
from uuid import uuid4

import fsspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save, save_file

from rayfed.errors import UserError

Arrays = dict[str, np.ndarray]


class Folder(Protocol):
    """Files by name, each whole or not there. What cannot be done raises OSError."""

    is_cached: ClassVar[bool]
    """Whether this machine's operating system keeps what was written lately in memory."""

    def put(self, name: str, arrays: Arrays) -> int:
        """Write a safetensors file, and wait until it is durable; what has this name already is replaced. Its bytes."""

    def get(self, name: str) -> Arrays:
        """A file's arrays. Raises SafetensorError for what is no such file."""

    def sizes(self) -> dict[str, int]:
        """The bytes of each file that is there."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; it is no error when one is gone already."""

    def clear(self) -> None:
        """Remove the folder and all that is in it."""

    def sync(self) -> None:
        """Wait until the names of the files that were put are durable too."""

    def where(self, name: str) -> str:
        """A file's path or URL, for a message."""


class LocalFolder:
    """A folder of this machine; made when it is first written to. Any number of processes may use it."""

    is_cached: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def put(self, name: str, arrays: Arrays) -> int:
        temporary = self.path / f"{uuid4().hex}.part"
        if not self.path.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)
            _synced(self.path.parent)
        try:
            save_file(arrays, temporary)
            nbytes = _synced(temporary)
            temporary.replace(self.path / name)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                temporary.unlink()
            raise _os_error(error) from None
        return nbytes

    def get(self, name: str) -> Arrays:
        return load_file(self.path / name)

    def sizes(self) -> dict[str, int]:
        if not self.path.is_dir():
            return {}
        with os.scandir(self.path) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def sync(self) -> None:
        if self.path.is_dir():
            _synced(self.path)

    def where(self, name: str) -> str:
        return str(self.path / name)


class RemoteFolder:
    """A folder behind a URL that fsspec opens: a file that was put is durable, and its name as well."""

    is_cached: ClassVar[bool] = False

    def __init__(self, url: str) -> None:
        """Raises UserError for a URL that fsspec does not know, or whose package is not installed."""
        try:
            self._files, self._path = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as error:
            raise UserError(f"store.states = {url!r}: cannot be used ({error})") from None

    def put(self, name: str, arrays: Arrays) -> int:
        data = save(arrays)
        self._files.makedirs(self._path, exist_ok=True)
        self._files.pipe_file(self._file(name), data)
        return len(data)

    def get(self, name: str) -> Arrays:
        return load(self._files.cat_file(self._file(name)))

    def sizes(self) -> dict[str, int]:
        self._files.invalidate_cache()
        try:
            found: list[dict[str, Any]] = self._files.ls(self._path, detail=True)
        except FileNotFoundError:
            return {}
        return {each["name"].rpartition("/")[2]: each["size"] for each in found if each["type"] == "file"}

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._file(name))

    def clear(self) -> None:
        with suppress(FileNotFoundError):
            self._files.rm(self._path, recursive=True)

    def sync(self) -> None: ...

    def where(self, name: str) -> str:
        return str(self._files.unstrip_protocol(self._file(name)))

    def _file(self, name: str) -> str:
        return f"{self._path}/{name}"


def _synced(path: Path) -> int:
    """Wait until a file, or a folder's names, is on the disk; its bytes."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
        return os.fstat(number).st_size
    finally:
        os.close(number)


def _os_error(error: OSError | SafetensorError) -> OSError:
    """safetensors tells of the disk in a text that has the system's number of the error."""
    number = re.search(r"os error (\d+)", str(error))
    if isinstance(error, OSError) or number is None:
        return error if isinstance(error, OSError) else OSError(str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])))


def is_url(place: str) -> bool:
    """Whether a place is a URL and no path."""
    return "://" in place


def folder_of(place: str) -> Folder:
    """The folder of a path, or of a URL such as `s3://bucket/folder`."""
    path = place.removeprefix("file://").removeprefix("local://")
    return RemoteFolder(place) if is_url(path) else LocalFolder(path)
