"""Judges a generator: draws its images, gives their FID and a few of them to look at."""

from dataclasses import dataclass

import numpy as np

from rayfed.config import RunConfig
from rayfed.data.datasets import Dataset
from rayfed.evaluation.evaluator import Evaluator
from rayfed.models.gan import gan_of
from rayfed.seeding import SERVER, torch_seed

GRID = 64
"""Images in a sample grid."""


@dataclass(frozen=True)
class Verdict:
    """FID metrics of the generator after `round`, and GRID of its images, uint8 [GRID, C, H, W]."""

    round: int
    metrics: dict[str, float]
    images: np.ndarray


@dataclass(frozen=True)
class Failure:
    """An evaluation that could not be made, and why, in one line."""

    reason: str


class Judge:
    """A generator's workspace beside the evaluator of `rayfed.evaluation`."""

    def __init__(
        self,
        config: RunConfig,
        classes: int,
        train_images: np.ndarray,
        train_labels: np.ndarray,
        test_images: np.ndarray,
        dataset_key: str,
        processor: str,
    ) -> None:
        self.config = config
        self.gan = gan_of(config, test_images.shape[1], classes, processor)
        self.evaluator = Evaluator(
            config.evaluation, train_images, train_labels, test_images, dataset_key, device=processor
        )

    def about(self) -> dict[str, str]:
        """The extractors in use by name: the file of their weights and its hash."""
        return self.evaluator.extractors

    def evaluate(self, round: int, generator: np.ndarray) -> Verdict:
        """Judge a generator's vector. The noise is the same in every round, so grids can be compared."""
        self.gan.load_models({"generator": generator})
        seed = torch_seed(self.config.seed, 0, SERVER, "evaluation")
        images = self.gan.generate(max(GRID, self.config.evaluation.samples), seed)
        return Verdict(round, self.evaluator.evaluate(images[: self.config.evaluation.samples]), images[:GRID])


def judge_of(config: RunConfig, data: Dataset) -> Judge:
    """A Judge in this process."""
    return Judge(config, len(data.classes), data.train_images, data.train_labels, data.test_images, data.key, "cpu")
