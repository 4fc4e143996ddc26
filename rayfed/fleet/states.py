"""Devices' states between their turns, as files that are named by their content.

A host writes a state where it runs and hands on its name alone. Equal states have equal names, so that a call which is
repeated elsewhere writes the same file again. Nobody changes a file; one that no kept commit names is removed.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from rayfed.errors import UserError
from rayfed.fleet.folders import Arrays, folder_of

DIGITS = 40
"""Of the SHA-256 of a state's arrays: its file's name."""
SUFFIX = ".safetensors"
CACHED = 256 * 2**20
"""Bytes of written states that a process keeps when their folder is not of its machine."""


@dataclass(frozen=True)
class StateFile:
    """A state that lies in the state folder: its file's name without the ending, and its bytes there."""

    name: str
    nbytes: int


def same(one: Any, other: Any) -> bool:
    """Whether a state is another: the same file, the same object, or nothing both times."""
    return one is other or (isinstance(one, StateFile) and one == other) or not (one or other)


class StateError(UserError):
    """A state cannot be written, or not be read any more."""

    def __init__(self, message: str, name: str | None = None) -> None:
        """`name`: of the state that cannot be read. None means that one could not be written."""
        super().__init__(message, name)
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


class StateFolder:
    """The states of one run's devices. Any process that reaches the folder may use it."""

    def __init__(self, place: str, narrowed: Collection[str] = ()) -> None:
        """A path, or an fsspec URL. `narrowed`: endings of the names of float32 arrays that are kept as bfloat16.

        Raises UserError for a URL that cannot be opened.
        """
        self.place = place
        self.narrowed = tuple(narrowed)
        self._folder = folder_of(place)
        self._cache: OrderedDict[str, Arrays] = OrderedDict()
        self._cached = 0

    def write(self, arrays: Arrays) -> StateFile:
        """Keep a state, numpy arrays by name, and wait until it is durable. Raises StateError when there is no room."""
        arrays = _in_rows(arrays)
        if self.narrowed:
            arrays = {name: self._narrow(name, array) for name, array in arrays.items()}
        name = _digest(arrays)
        try:
            nbytes = self._folder.put(name + SUFFIX, arrays)
        except OSError as error:
            raise StateError(f"{self.place}: the state of a device cannot be written ({_reason(error)})") from None
        self._remember(name, arrays)
        return StateFile(name, nbytes)

    def read(self, state: StateFile) -> Arrays:
        """A state's arrays. Raises StateError when its file is gone, or is not what was written."""
        return {name: self._widen(name, array) for name, array in self._stored(state).items()}

    def _stored(self, state: StateFile) -> Arrays:
        """A file's arrays as they lie there."""
        if state.name in self._cache:
            return self._cache[state.name]
        where = self._folder.where(state.name + SUFFIX)
        try:
            arrays = self._folder.get(state.name + SUFFIX)
        except FileNotFoundError:
            raise StateError(f"{where}: the state of a device is gone", state.name) from None
        except (OSError, SafetensorError) as error:
            raise StateError(f"{where}: the state of a device cannot be read ({_reason(error)})", state.name) from None
        if _digest(arrays) != state.name:
            raise StateError(f"{where}: the state of a device is damaged: not what was written", state.name)
        return arrays

    def _narrow(self, name: str, array: np.ndarray) -> np.ndarray:
        """bfloat16, which numpy has not, as the uint16 of the same bits."""
        if array.dtype != np.float32 or not name.endswith(self.narrowed):
            return array
        bits = array.view(np.uint32)
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16  # to the nearest, ties to the even one
        return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)

    def _widen(self, name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype != np.uint16 or not name.endswith(self.narrowed):
            return array
        return (array.astype(np.uint32) << 16).view(np.float32)

    def sync(self) -> None:
        """Wait until the names of all that was written are durable. Raises StateError where that fails."""
        with self._telling("written"):
            self._folder.sync()

    def missing(self, states: Iterable[StateFile]) -> list[StateFile]:
        """Those of these states whose files are gone or have another size; what lies in them is not read."""
        with self._telling("looked at"):
            sizes = self._folder.sizes()
        return [state for state in states if sizes.get(state.name + SUFFIX) != state.nbytes]

    def remove(self, names: Iterable[str]) -> None:
        """Remove states that nobody names any more."""
        with self._telling("removed"):
            self._folder.remove(name + SUFFIX for name in names)

    def keep(self, names: Collection[str]) -> None:
        """Remove everything but these states: what a killed process has left behind."""
        files = {name + SUFFIX for name in names}
        with self._telling("removed"):
            self._folder.remove(name for name in self._folder.sizes() if name not in files)

    def clear(self) -> None:
        """Remove the folder and all states in it."""
        with self._telling("removed"):
            self._folder.clear()

    @contextmanager
    def _telling(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(f"{self.place}: the states of devices cannot be {done} ({_reason(error)})") from None

    def _remember(self, name: str, arrays: Arrays) -> None:
        if self._folder.is_cached or name in self._cache:
            return
        self._cache[name] = arrays
        self._cached += _nbytes(arrays)
        while self._cached > CACHED:
            self._cached -= _nbytes(self._cache.popitem(last=False)[1])


def pack(arrays: Arrays) -> bytes:
    """Arrays of any shape and dtype as safetensors."""
    data: bytes = save(_in_rows(arrays))
    return data


def _in_rows(arrays: Arrays) -> Arrays:
    """Arrays in row-major order: safetensors writes the memory as it lies, a transposed one would come back wrong."""
    return {name: np.asarray(array, order="C") for name, array in arrays.items()}


def _digest(arrays: Arrays) -> str:
    """Of the arrays' names, dtypes, shapes and values, which lie in row-major order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:DIGITS]


def _nbytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
