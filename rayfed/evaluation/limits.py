"""What `fid_classifier` can tell on a data set: real images say where its features, or a figure, tell too little."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rayfed.evaluation import cache
from rayfed.evaluation.classifier import ClassifierExtractor
from rayfed.evaluation.fid import Statistics, frechet_distance, statistics
from rayfed.seeding import SERVER, generator

NEAR_CHANCE = 0.25
"""Of the way from chance to no mistake: a classifier that gets no farther knows little of its classes."""
FEW_DIMENSIONS = 1.5
"""Two classes give 1.0 to 1.2, three 1.7 to 2.0, ten 4 to 7 (docs/metrics.md)."""
NEAR_FLOOR = 2
"""Times the floor: figures below it are hardly worse than those of real images."""


@dataclass(frozen=True)
class Limits:
    """Measured once on a data set's real images, in the features of its classifier."""

    accuracy: float
    """The share of the test images that the classifier gets right."""
    chance: float
    """The share of the largest class of the test images."""
    dimensions: float
    """`effective_dimension` of the covariance of the test images' features."""
    floor: float
    """The Frechet distance of training images, as many as are generated for a figure, to the test images."""

    def warnings(self, figure: float) -> tuple[str, ...]:
        """A line for the user where `fid_classifier`, at this figure, does not tell generators apart."""
        if self.accuracy <= self.chance + NEAR_CHANCE * (1 - self.chance):
            right, chance = f"{self.accuracy:.0%}", f"{self.chance:.0%}"
            why = f"the classifier of the data's classes is right on {right} of the test images, chance is {chance}"
        elif self.dimensions < FEW_DIMENSIONS:
            why = f"real images differ along {self.dimensions:.1f} effective dimensions of the classifier's features"
        elif figure < NEAR_FLOOR * self.floor:
            why = f"it is below {NEAR_FLOOR} times its floor of {self.floor:.3g}, which is what training images get"
        else:
            return ()
        return (f"fid_classifier says little: {why}; judge by fid (evaluation.extractor=inception)",)

    def about(self) -> dict[str, str]:
        """For MLflow's tags."""
        return {
            "classifier.accuracy": f"{self.accuracy:.4g}",
            "classifier.chance": f"{self.chance:.4g}",
            "classifier.dimensions": f"{self.dimensions:.4g}",
            "fid_classifier.floor": f"{self.floor:.4g}",
        }


def find_limits(
    classifier: ClassifierExtractor,
    real: Statistics,
    train_images: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.integer],
    samples: int,
    dataset_key: str,
    cache_dir: str | Path | None,
) -> Limits:
    """The limits at `samples` generated images, measured where the cache has none; `real` is of test_images.

    The floor takes as many training images, or all that there are (a single one twice), drawn by a fixed seed.
    """
    count = max(2, min(samples, len(train_images)))
    kind = f"limits-{classifier.sha256[:16]}-{count}"
    path = cache.locate(cache_dir, kind, dataset_key, test_images.shape[1:], ".json")
    try:
        return Limits(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        chosen = np.resize(generator(0, 0, SERVER, "floor").permutation(len(train_images)), count)
        found = Limits(
            accuracy=classifier.accuracy(test_images, test_labels),
            chance=float(np.bincount(test_labels).max() / len(test_labels)),
            dimensions=effective_dimension(real.cov),
            floor=frechet_distance(real, statistics(classifier.features(train_images[chosen]))),
        )
    cache.write(path, json.dumps(asdict(found)).encode())
    return found


def effective_dimension(cov: NDArray[np.float64]) -> float:
    """The participation ratio of a covariance [F, F]: n where n directions vary alike and the others not at all."""
    squares = float(np.square(cov).sum())
    return float(np.trace(cov)) ** 2 / squares if squares else 0.0
