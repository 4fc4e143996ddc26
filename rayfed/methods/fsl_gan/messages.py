"""What FSL-GAN's server and devices say to each other: who holds what, which pass it is, and what is handed on."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rayfed.fleet.codec import Codec, Packed
from rayfed.ids import ClientId, DeviceId
from rayfed.models import flat
from rayfed.models.portions import blocks
from rayfed.models.stage import activation_codec
from rayfed.tasks.gan.workspace import GanWorkspace

BETWEEN_DEVICES = "float32"
"""The wire between a client's devices, which the paper's plans count; `wire` is the server's."""


@dataclass(frozen=True)
class Place:
    """One device's place in its client's chain."""

    client: ClientId
    blocks: tuple[int, ...]
    first: bool
    last: bool

    @property
    def kind(self) -> Hashable:
        """What of it decides a call's cost."""
        return self.blocks, self.first, self.last


@dataclass(frozen=True)
class Step:
    """Which pass a call belongs to: micro-batch `micro` of an iteration, training D, or for G."""

    round: int
    iteration: int
    micro: int
    for_generator: bool

    @property
    def kind(self) -> Hashable:
        """What of it decides a call's cost."""
        return self.micro, self.for_generator


@dataclass(frozen=True)
class Passed:
    """What a device hands on: activations or gradients (of real images and fakes, or of fakes alone), as encoded.

    The first device's last word goes to the server: dL/dx of the fakes, and the mean losses of G and D.
    """

    device: DeviceId
    payloads: tuple[Packed, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    """[b, ...] of each payload."""
    loss: float = 0.0
    """The mean loss of this pass, G's or D's, on its way to the first device."""
    gradient: Packed | None = None
    loss_d: float = 0.0


def block_codec(workspace: GanWorkspace, numbers: Sequence[int]) -> Codec:
    """The wire's layout of some blocks."""
    every = blocks(workspace.gan.discriminator)
    return Codec(workspace.wire, {f"block{number}": flat.sizes(every[number]) for number in numbers})


def pack(arrays: Sequence[np.ndarray], kind: str) -> tuple[tuple[Packed, ...], tuple[tuple[int, ...], ...]]:
    """Activations or gradients [b, ...] as a device hands them on, and their shapes."""
    codecs = (activation_codec(BETWEEN_DEVICES, array.size, kind) for array in arrays)
    payloads = tuple(codec.encode({"values": array.ravel()}) for codec, array in zip(codecs, arrays, strict=True))
    return payloads, tuple(array.shape for array in arrays)


def unpack(passed: Passed) -> list[np.ndarray]:
    """The arrays [b, ...] that `pack` packed."""
    pairs = zip(passed.payloads, passed.shapes, strict=True)
    return [activation_codec(BETWEEN_DEVICES, p.data.size, p.kind).values(p).reshape(shape) for p, shape in pairs]


def micro_rows(batch: int, count: int) -> list[slice]:
    """`batch` rows in `count` consecutive, nearly equal parts."""
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
