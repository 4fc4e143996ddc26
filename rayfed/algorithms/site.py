"""One process's workspace: networks, the wire's codecs and, where devices run, the data."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from rayfed.config import RunConfig
from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.protocol import Fleet
from rayfed.models.gan import gan_of
from rayfed.models.networks import ARCHITECTURES
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, generator

NOTHING = np.empty(0, np.uint8)
"""What a site holds where no devices run."""


class Site:
    """What device halves and server halves work with.

    `images` uint8 [N, C, H, W] and `labels` int64 [N] are shared by all devices; `parts` gives each device's indices.
    `channels` and `classes` are those of the data set.
    """

    def __init__(
        self,
        config: RunConfig,
        channels: int,
        classes: int,
        images: np.ndarray = NOTHING,
        labels: np.ndarray = NOTHING,
        parts: Sequence[np.ndarray] = (),
        processor: str = "cpu",
    ) -> None:
        self.config = config
        self.classes = classes
        self.gan = gan_of(config, channels, classes, processor)
        sizes = self.gan.sizes
        self.codec = Codec(config.wire, sizes)
        self.codecs = {name: Codec(config.wire, {name: sizes[name]}) for name in sizes}
        side = ARCHITECTURES[config.model.name].side
        self.shape = (channels, side, side)
        self.images = images
        self.labels = labels
        self.parts = parts

    def samples(self, device: int) -> np.ndarray:
        """The indices a device holds; the SERVER of the centralised reference holds all."""
        return np.unique(np.concatenate(self.parts)) if device == SERVER else self.parts[device]

    def indices(self, device: int, batch: int, round: int, start: int, count: int) -> Iterator[np.ndarray]:
        """Of the round's batches number `start` to `start + count`, each the indices [B] of its samples.

        The device's data is shuffled, and again when it runs out.
        """
        return islice(self._endless(device, batch, round), start, start + count)

    def _endless(self, device: int, batch: int, round: int) -> Iterator[np.ndarray]:
        rng = generator(self.config.seed, round, device, "batches")
        samples, order = self.samples(device), np.empty(0, np.int64)
        while True:
            while len(order) < batch:
                order = np.concatenate((order, rng.permutation(samples)))
            taken, order = order[:batch], order[batch:]
            yield taken

    def batches(self, device: int, load: Load, round: int) -> Iterator[np.ndarray]:
        """The round's batches of real images, uint8 [B, C, H, W]."""
        for batch in self.indices(device, load.batch, round, 0, load.iterations):
            yield self.images[batch]

    def pack_images(self, images: Tensor) -> Packed:
        """Images (or their gradients), float32 [B, C, H, W], as they cross the wire."""
        flat = images.detach().contiguous().cpu().numpy().ravel()
        return self.image_codec(flat.size).encode({"images": flat})

    def unpack_images(self, packed: Packed) -> Tensor:
        """What `pack_images` packed; raises ValueError for what is not images of this run."""
        values = self.image_codec(packed.data.size).values(packed)
        images = torch.tensor(values).view(-1, *self.shape)
        return images.to(self.gan.device, memory_format=torch.channels_last)

    def image_codec(self, size: int) -> Codec:
        """The wire's layout of images of `size` values in all."""
        return Codec(self.config.wire, {"images": (size,)})

    def work(self, fleet: Fleet, method: str) -> AbstractContextManager[None]:
        """The server computes in this block, on this site's networks."""
        return fleet.work(method, self.gan.meter.take)
