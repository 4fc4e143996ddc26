"""FID in the feature space of a classifier of the data set itself, as MD-GAN does on MNIST (Hardy et al. 2019)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn import functional as F

from rayfed.evaluation import cache
from rayfed.evaluation.extractor import extract
from rayfed.seeding import SERVER, torch_seed

VERSION = 1
"""Goes up with every change to the network or its training: caches of another version are not read."""
SEED = torch_seed(0, 0, SERVER, "classifier")
BATCH = 64
LEARNING_RATE = 2e-3


class Network(nn.Module):
    """Three convolutions of stride 2, a dense layer of 64 features, and the class scores."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
            nn.Flatten(),
            *(nn.Linear(64 * ceil(height / 8) * ceil(width / 8), 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, 64] of uint8 images [B, C, H, W]."""
        features: torch.Tensor = self.features(images.float() / 127.5 - 1)
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores [B, K] of uint8 images [B, C, H, W]."""
        scores: torch.Tensor = self.head(self.embed(images))
        return scores


class ClassifierExtractor:
    """Features [N, 64] of a classifier trained once on the data set and kept on disk."""

    name = "classifier"
    metric = "fid_classifier"

    def __init__(self, network: Network, train_accuracy: float, path: Path, device: str | torch.device = "cpu") -> None:
        self.path = path
        self.sha256 = _digest(network)
        self.train_accuracy = train_accuracy
        self.device = torch.device(device)
        self._network = network.to(self.device)

    @classmethod
    def train_or_load(
        cls,
        images: NDArray[np.uint8],
        labels: NDArray[np.integer],
        dataset_key: str,
        cache_dir: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> "ClassifierExtractor":
        """The classifier of images [N, C, H, W] with labels [N] in 0..K-1, trained if the cache has none.

        `dataset_key` names the training data: the same key must always mean the same images. Training runs on one CPU
        thread from a fixed seed, so the same machine gives the same weights. Raises UserError where the cache cannot be
        written.
        """
        shape = images.shape[1:]
        path = cache.locate(cache_dir, f"classifier-v{VERSION}", dataset_key, shape, ".safetensors")
        stored = _read(path, shape)
        if stored is None:
            stored = _train(images, labels)
            _write(path, *stored)
        return cls(*stored, path, device)

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features [N, 64] of images [N, C, H, W]."""
        return extract(self._network.embed, images, 1000, self.device)

    def accuracy(self, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> float:
        """The share of images [N, C, H, W] whose label [N] it gets right."""
        return _accuracy(self._network, images, labels, self.device)


def _train(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> tuple[Network, float]:
    """A trained network and its accuracy on what it was trained on.

    About 120,000 images are seen, but none more than 8 times nor fewer than once.
    """
    targets = torch.tensor(np.asarray(labels, np.int64))
    epochs = min(8, max(1, 120_000 // len(images)))
    with _reproducible():
        network = Network(images.shape[1:], int(targets.max()) + 1)
        optimizer = torch.optim.Adam(network.parameters())
        steps = epochs * ceil(len(images) / BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(network(torch.tensor(images[chosen.numpy()])), targets[chosen]).backward()
                optimizer.step()
                schedule.step()
        accuracy = _accuracy(network, images, labels, torch.device("cpu"))
    return network, accuracy


def _accuracy(network: Network, images: NDArray[np.uint8], labels: NDArray[np.integer], device: torch.device) -> float:
    scores = extract(network, images, 1000, device)
    return float((scores.argmax(axis=1) == labels).mean())


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread and seeded CPU randomness; both as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            yield
    finally:
        torch.set_num_threads(threads)


def _write(path: Path, network: Network, train_accuracy: float) -> None:
    metadata = {"sha256": _digest(network), "train_accuracy": repr(train_accuracy)}
    cache.write(path, safetensors.torch.save(network.state_dict(), metadata))


def _read(path: Path, shape: tuple[int, int, int]) -> tuple[Network, float] | None:
    """What `_write` wrote; none where there is no such file or it is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = Network(shape, len(state["head.bias"]))
        network.load_state_dict(state)
        whole = metadata["sha256"] == _digest(network)
        return (network, float(metadata["train_accuracy"])) if whole else None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None


def _digest(network: Network) -> str:
    """SHA-256 of the weights, in the order of their names; the network is on the CPU."""
    state = network.state_dict()
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()
