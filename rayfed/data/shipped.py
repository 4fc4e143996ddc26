"""The data set that comes with the package."""

from pathlib import Path

import numpy as np

from rayfed.data.images import Splits

PATH = Path(__file__).parent / "assets" / "fashion_mnist_6k.npz"

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fashion_mnist_6k() -> Splits:
    """The class-balanced subset, 6,000 / 1,000 images of 28x28x1 (see assets/README.md)."""
    with np.load(PATH) as arrays:
        return Splits(**arrays, classes=CLASSES)
