"""The data of the clients where they run: one array of images, shared by all, and each client's indices into it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from rayfed.ids import ClientId
from rayfed.seeding import SERVER, generator

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shard:
    """One client's data. `images` uint8 [N, C, H, W] and `labels` int64 [N] are everybody's, `samples` its own rows."""

    client: ClientId
    images: npt.NDArray[np.uint8]
    labels: Indices
    samples: Indices
    classes: int
    seed: int
    """Of the run."""

    def class_counts(self) -> Indices:
        """Samples of each class [classes]."""
        return np.bincount(self.labels[self.samples], minlength=self.classes)

    def indices(self, batch: int, round: int, start: int, count: int) -> Iterator[Indices]:
        """Of the round's batches number `start` to `start + count`, each the indices [batch] of its samples.

        The client's data is shuffled, and again when it runs out.
        """
        return islice(self._endless(batch, round), start, start + count)

    def _endless(self, batch: int, round: int) -> Iterator[Indices]:
        rng = generator(self.seed, round, self.client, "batches")
        order = np.empty(0, np.int64)
        while True:
            while len(order) < batch:
                order = np.concatenate((order, rng.permutation(self.samples)))
            taken, order = order[:batch], order[batch:]
            yield taken

    def batches(self, batch: int, iterations: int, round: int) -> Iterator[npt.NDArray[np.uint8]]:
        """The round's batches of images, uint8 [batch, C, H, W]."""
        for indices in self.indices(batch, round, 0, iterations):
            yield self.images[indices]


@dataclass(frozen=True, eq=False)
class Shards:
    """All clients' data on one host; `parts` gives each client's indices."""

    images: npt.NDArray[np.uint8]
    labels: Indices
    parts: Sequence[Indices]
    classes: int
    seed: int

    def of(self, client: ClientId) -> Shard:
        """A client's shard; the SERVER of the centralised reference holds what any client holds."""
        samples = np.unique(np.concatenate(self.parts)) if client == SERVER else self.parts[client]
        return Shard(client, self.images, self.labels, samples, self.classes, self.seed)
