"""Bright bars on a dark ground, drawn rather than read: 600 to train on, 200 to test on."""

import numpy as np

from rayfed.data.images import Splits

SIDE = 16
CLASSES = ("lying", "standing")


def load(root: str | None, size: int | None) -> Splits:
    """The data set. `root` is the configuration's `data.root`, for those who read files; `size` the side in pixels that
    the networks take, to which rayfed resizes images of any other."""
    rng = np.random.default_rng(0)
    train_labels, test_labels = np.arange(600) % 2, np.arange(200) % 2
    return Splits(_bars(train_labels, rng), train_labels, _bars(test_labels, rng), test_labels, CLASSES)


def _bars(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [N, 1, SIDE, SIDE]."""
    images = rng.integers(0, 40, (len(labels), 1, SIDE, SIDE), np.uint8)
    for image, label, start in zip(images[:, 0], labels, rng.integers(0, SIDE - 4, len(labels)), strict=True):
        bar = slice(start, start + 4)
        image[(slice(None), bar) if CLASSES[label] == "standing" else bar] += 200
    return images
