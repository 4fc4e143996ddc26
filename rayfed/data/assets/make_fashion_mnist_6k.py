"""Make fashion_mnist_6k.npz: a class-balanced subset of Fashion-MNIST, 600 training and 100 test images a class.

    python make_fashion_mnist_6k.py [FOLDER]

FOLDER holds the idx files; Debian's package `dataset-fashion-mnist` puts them where it looks by default.
"""

import sys
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

from rayfed.data.images import Labels, Splits
from rayfed.data.shipped import PATH as SHIPPED
from rayfed.data.sources import DEBIAN_FASHION_MNIST, mnist_like


def subset(folder: Path) -> Splits:
    """Pick from the whole data in FOLDER, keeping its order."""
    whole = mnist_like(FashionMNIST, str(folder))
    rng = np.random.RandomState(0)  # unlike a Generator's, its stream never changes between versions of numpy
    train, test = _pick(whole.train_labels, 600, rng), _pick(whole.test_labels, 100, rng)
    return Splits(
        whole.train_images[train],
        whole.train_labels[train],
        whole.test_images[test],
        whole.test_labels[test],
        whole.classes,
    )


def _pick(labels: Labels, per_class: int, rng: np.random.RandomState) -> Labels:
    picked = [rng.choice(np.flatnonzero(labels == c), size=per_class, replace=False) for c in range(10)]
    return np.sort(np.concatenate(picked))


if __name__ == "__main__":
    arrays = subset(Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN_FASHION_MNIST)._asdict()
    del arrays["classes"]
    np.savez_compressed(SHIPPED, **arrays)
