"""One process's classifier, whole and in two halves: what every method of the classification task works with."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rayfed.config import RunConfig
from rayfed.fleet.codec import Codec
from rayfed.models import flat
from rayfed.models.classifiers import classifier, cut, initialise
from rayfed.models.flops import Meter
from rayfed.models.gan import seeded, to_images
from rayfed.models.trained import Networks
from rayfed.tasks.classification import CLASSIFIER, DEVICE_PART, SERVER_PART
from rayfed.tasks.classification.settings import SplitTraining


class ClassifierWorkspace(Networks):
    """The network f, and where the method cuts it, its halves f_a and f_b, which share their layers with it."""

    def __init__(self, config: RunConfig, channels: int, classes: int, processor: str = "cpu") -> None:
        """`channels` and `classes` are those of the data set. Raises UserError for a cut outside the network."""
        model, found = config.model, classifier(config.model.name)
        self.device = torch.device(processor)
        network = found.build(channels, model.width or found.width, classes)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts = {CLASSIFIER: self.network}
        if isinstance(config.method, SplitTraining):
            parts = dict(zip((DEVICE_PART, SERVER_PART), cut(self.network, config.method.cut), strict=True))
        super().__init__(parts, model.lr, (model.beta1, model.beta2))
        self.bf16 = model.precision == "bf16"
        self.classes = classes
        self.image_shape = (channels, found.side, found.side)
        self.wire = config.wire
        self.codec = Codec(config.wire, self.sizes)
        """Of the whole network."""
        self.meter = Meter()
        self.pending: tuple[tuple[int, int, int], Tensor] | None = None
        """Smashed data with its graph, and whose it is: (device, round, iteration)."""

    @cached_property
    def smashed_shape(self) -> tuple[int, ...]:
        """Of f_a's output for one image."""
        with torch.no_grad():
            return tuple(self.networks[DEVICE_PART](torch.zeros(1, *self.image_shape, device=self.device)).shape[1:])

    def initialise(self, seed: int) -> None:
        """Draw fresh weights from `seed`."""
        with seeded(seed):
            initialise(self.network)

    def load_whole(self, vector: np.ndarray) -> None:
        """Load the whole network's vector."""
        flat.vector_to_module(vector, self.network)

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """The networks' precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def train(self, images: np.ndarray, labels: np.ndarray) -> Tensor:
        """A step of the whole network on uint8 [b, C, H, W] and int64 [b]; the mean cross-entropy."""
        with self.meter.measure("step", len(images)):
            with self.arithmetic():
                scores = self.network(to_images(images, self.device))
            loss = self.loss(scores, labels)
            self.zero_grad()
            loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        return loss.detach()

    def loss(self, scores: Tensor, labels: np.ndarray) -> Tensor:
        """The mean cross-entropy of scores [b, classes] and labels int [b]."""
        return F.cross_entropy(scores.float(), torch.from_numpy(labels).long().to(self.device))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
