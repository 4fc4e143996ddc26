"""What FSL-GAN's server and devices say to each other: who holds what, which pass it is, and what is handed on."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rayfed.algorithms.site import Site
from rayfed.config import FslGan
from rayfed.fleet.codec import Codec, Packed
from rayfed.models import flat
from rayfed.models.portions import blocks


@dataclass(frozen=True)
class Stage:
    """One device's place in its client's chain."""

    client: int
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
    """What a device hands on: activations or gradients [b, ...] (of real images and fakes, or of fakes alone).

    The first device's last word goes to the server: dL/dx of the fakes, and the mean losses of G and D.
    """

    device: int
    arrays: tuple[np.ndarray, ...] = ()
    loss: float = 0.0
    """The mean loss of this pass, G's or D's, on its way to the first device."""
    gradient: Packed | None = None
    loss_d: float = 0.0


def block_codec(site: Site, numbers: Sequence[int]) -> Codec:
    """The wire's layout of some blocks."""
    every = blocks(site.gan.discriminator)
    return Codec(site.config.wire, {f"block{number}": flat.sizes(every[number]) for number in numbers})


def micro_batches(site: Site) -> int:
    """How many micro-batches a batch passes as."""
    assert isinstance(site.config.method, FslGan)
    return site.config.method.micro_batches


def micro_rows(batch: int, count: int) -> list[slice]:
    """`batch` rows in `count` consecutive, nearly equal parts."""
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
