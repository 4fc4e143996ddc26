"""How much each device does in a round: FeGAN's training load (section 3.4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayfed.config import Devices
from rayfed.seeding import SERVER, generator

FLOOR = 0.5
"""No device gets less than this share of B or E (section 6, heterogeneous devices)."""


@dataclass(frozen=True)
class Capability:
    """A device's memory and compute, relative to each other (any unit, positive)."""

    memory: float
    compute: float


@dataclass(frozen=True)
class Load:
    """One device's share of a round."""

    batch: int
    """Images in a batch: B as assigned, or all that a device with fewer has."""
    iterations: int
    assigned: int | None = None
    """B as assigned from the device's memory. None means that it is `batch`."""
    last: int | None = None
    """Images in the last batch. None means as many as in the others."""

    @property
    def images(self) -> int:
        """Real images the device trains on in a round."""
        return self.batch * self.iterations if self.last is None else self.batch * (self.iterations - 1) + self.last

    def size(self, number: int) -> int:
        """Images in a batch, by its number from 0."""
        return self.batch if self.last is None or number < self.iterations - 1 else self.last

    @property
    def assigned_images(self) -> int:
        """B x E as assigned from memory and compute, whatever the device holds (FeGAN, section 3.4)."""
        return (self.assigned or self.batch) * self.iterations


def capabilities(config: Devices, seed: int) -> list[Capability]:
    """The devices' capabilities: a seeded choice of `weak_fraction` of them is weak, the rest are 1."""
    weak = round(config.weak_fraction * config.count)
    chosen = set(generator(seed, 0, SERVER, "weak devices").choice(config.count, weak, replace=False).tolist())
    strong, low = Capability(1.0, 1.0), Capability(config.weak_memory, config.weak_compute)
    return [low if k in chosen else strong for k in range(config.count)]


def _batch(batch: int, samples: int) -> int:
    """A batch that a device can fill, but never one image: BatchNorm over vectors needs two, drawn again if need be."""
    return max(min(batch, 2), min(batch, samples))


def epoch(samples: int, batch: int) -> Load:
    """All of a device's samples once, in batches of `batch` and what is left."""
    left = samples % batch
    return Load(batch, -(-samples // batch), last=left or None)


def equal_load(samples: NDArray[np.int64], batch: int, iterations: int) -> list[Load]:
    """B and E for all; a device with fewer samples [K] than B trains on batches of all it has, of two at least."""
    return [Load(_batch(batch, int(n)), iterations, batch) for n in samples]


def linear_load(samples: NDArray[np.int64], capabilities: list[Capability], batch: int, iterations: int) -> list[Load]:
    """B linear in memory and E linear in compute: all of it for the strongest device, never under FLOOR.

    The lines go through the origin: a device with 0.7 of the strongest's memory gets 0.7 of its batch, so that
    memory is used alike and local training takes equal time on all devices above the floor.
    """
    memory = np.array([c.memory for c in capabilities])
    compute = np.array([c.compute for c in capabilities])
    batches = np.rint(batch * np.maximum(FLOOR, memory / memory.max())).astype(int)
    rounds = np.rint(iterations * np.maximum(FLOOR, compute / compute.max())).astype(int)
    pairs = zip(batches.tolist(), rounds.tolist(), samples.tolist(), strict=True)
    return [Load(_batch(b, n), max(1, e), b) for b, e, n in pairs]
