"""What the methods of the classification task share: a device's batches of images and labels in a round."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rayfed.config import RunConfig
from rayfed.data.population import Population
from rayfed.data.shard import Indices, Shard
from rayfed.scheduling.load import Load, epoch
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import generator

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
"""Images uint8 [b, C, H, W] and labels int64 [b]."""


class EpochScheduler(Scheduler):
    """Loads of a whole epoch where `method.iterations` is 0."""

    def _all_loads(self) -> list[Load]:
        loads, samples = super()._all_loads(), self._counts.sum(axis=1)
        if self.config.method.iterations:
            return loads
        return [epoch(n, load.batch) for load, n in zip(loads, samples.tolist(), strict=True)]


def scheduler(config: RunConfig, population: Population) -> EpochScheduler:
    """For `MethodSpec.scheduler`."""
    return EpochScheduler(config, population.counts)


def batches(shard: Shard, load: Load, round: int, iterations: int) -> Iterator[Batch]:
    """A device's batches in a round: so many, or with 0 `iterations` all its samples once, in the same order."""
    for indices in _order(shard, load, round, iterations):
        yield shard.images[indices], shard.labels[indices]


def batch(shard: Shard, load: Load, round: int, number: int, iterations: int) -> Batch:
    """One of `batches`, by its number."""
    indices = _order(shard, load, round, iterations)[number]
    return shard.images[indices], shard.labels[indices]


def _order(shard: Shard, load: Load, round: int, iterations: int) -> list[Indices]:
    if iterations:
        return list(shard.indices(load.batch, round, 0, iterations))
    order = generator(shard.seed, round, shard.client, "batches").permutation(shard.samples)
    return [order[at : at + load.batch] for at in range(0, len(order), load.batch)]
