"""The clients' data in numbers; without torch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Population:
    """What a server knows of the clients' data: numbers alone."""

    channels: int
    """Of an image."""
    counts: Counts
    """Samples of each class on each client, int64 [K, classes]."""
    union: Counts
    """Distinct samples of each class that clients hold, int64 [classes]."""
    whole: Counts
    """Samples of each class in the whole training set, int64 [classes]."""

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.whole)


class EvaluationData(NamedTuple):
    """What a state is judged on: images uint8 [N, C, H, W], labels int64 [N], a key that names the data for good."""

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int64]
    classes: int
    key: str
