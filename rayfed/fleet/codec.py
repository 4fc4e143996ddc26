"""How models, images and activations cross the wire: one contiguous buffer, for models parameters and buffers together.

float32 is exact; float16 halves the bytes (values beyond its range are clipped to it); int8 quarters them, with
one float32 scale per tensor so that value = code * scale, |code| <= 127.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


Kinds = Mapping[str, int]
"""Bytes by the kind of payload: model, fakes, feedback, activations, gradients, ..."""
OTHER = "other"
"""The kind of arrays that no codec has packed."""
ALIKE = 0.75
"""The share of equal signs from which on two arrays of one length are taken for the same values; int8 loses the small
ones' signs."""
RECORD = "record"
"""The kind of what a device tells for the run's own record (its checkpoint and evaluation) and no method sends: it does
not count."""


@dataclass(frozen=True)
class Packed:
    """An encoded payload: `data` [n] float32, float16 or int8; `scales` [tensors] float32 for int8, else empty."""

    data: NDArray[Any]
    scales: Vector
    kind: str = "model"
    """What it is, for the ledger; see Kinds."""

    @property
    def nbytes(self) -> int:
        """What crosses the wire."""
        return self.data.nbytes + self.scales.nbytes


class Codec:
    """Encodes and decodes payloads of one layout and kind.

    `sizes` gives, per model name and in wire order, the number of values of each of its tensors.
    """

    def __init__(self, wire: str, sizes: Mapping[str, Sequence[int]], kind: str = "model") -> None:
        self.wire = wire
        self.kind = kind
        self.lengths = {name: sum(tensors) for name, tensors in sizes.items()}
        self.tensors = np.array([size for tensors in sizes.values() for size in tensors], dtype=np.int64)
        self.length = int(self.tensors.sum())

    def encode(self, models: Mapping[str, Vector]) -> Packed:
        """float32 vectors, one per model, to one buffer."""
        flat = np.concatenate([models[name] for name in self.lengths])
        if flat.shape != (self.length,):
            raise ValueError(f"models hold {flat.size} values, the layout has {self.length}")
        none = np.empty(0, np.float32)
        if self.wire == "float32":
            return Packed(flat, none, self.kind)
        if self.wire == "float16":
            limit = np.finfo(np.float16).max
            return Packed(np.clip(flat, -limit, limit).astype(np.float16), none, self.kind)
        peaks = np.maximum.reduceat(np.abs(flat), self._starts())
        scales = np.maximum(peaks / np.float32(127), np.finfo(np.float32).tiny)
        codes = np.rint(flat / np.repeat(scales, self.tensors))
        return Packed(np.clip(codes, -127, 127).astype(np.int8), scales, self.kind)

    def decode(self, packed: Packed) -> dict[str, Vector]:
        """One buffer to float32 vectors (views of the buffer when the wire is float32: copy before writing)."""
        return self.split(self.values(packed))

    def values(self, packed: Packed) -> Vector:
        """The buffer's values [n] float32; raises ValueError when it does not have this layout."""
        if packed.data.shape != (self.length,) or packed.data.dtype != self.wire:
            raise ValueError(f"payload {packed.data.dtype} {packed.data.shape}, expected {self.wire} ({self.length},)")
        if self.wire != "int8":
            return packed.data.astype(np.float32, copy=False)
        return packed.data * np.repeat(packed.scales, self.tensors)

    def split(self, values: Vector) -> dict[str, Vector]:
        """Values [n] of all models to one vector per model."""
        ends = np.cumsum(list(self.lengths.values()))[:-1]
        return dict(zip(self.lengths, np.split(values, ends), strict=True))

    def _starts(self) -> NDArray[np.int64]:
        return np.concatenate(([0], np.cumsum(self.tensors)[:-1]))


def payload_kinds(payload: Any) -> Kinds:
    """Bytes of the arrays in a payload, by kind; scalars (a load, a loss) are control data and count as nothing."""
    found: Counter[str] = Counter()
    for each in _leaves(payload):
        kind = each.kind if isinstance(each, Packed) else OTHER
        if kind != RECORD:
            found[kind] += each.nbytes
    return dict(found)


def holds(payload: Any, values: NDArray[Any]) -> bool:
    """Whether one of a payload's arrays is these values, in whatever encoding: as many, with the same signs."""
    signs = np.sign(values).ravel()
    arrays = (each.data if isinstance(each, Packed) else each for each in _leaves(payload))
    return any(array.size == signs.size and (np.sign(array).ravel() == signs).mean() > ALIKE for array in arrays)


def _leaves(payload: Any) -> Iterator[Packed | NDArray[Any]]:
    """The packed and the plain arrays in a payload."""
    if isinstance(payload, Packed | np.ndarray):
        yield payload
    elif isinstance(payload, Mapping):
        yield from _leaves(list(payload.values()))
    elif isinstance(payload, list | tuple):
        for each in payload:
            yield from _leaves(each)
    elif is_dataclass(payload):
        for field in fields(payload):
            yield from _leaves(getattr(payload, field.name))
