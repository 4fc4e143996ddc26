"""Judges a generator: draws its images, gives their FID and a few of them to look at."""

import numpy as np
import numpy.typing as npt

from rayfed.config import RunConfig
from rayfed.data.population import EvaluationData
from rayfed.evaluation.evaluator import Evaluator
from rayfed.evaluation.grid import grid
from rayfed.fleet.protocol import Arrays
from rayfed.models.gan import gan_of
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.base import EvaluationResult, Pictures
from rayfed.tasks.gan import FID_CLASSIFIER

GRID = 64
"""Images in a sample grid."""


class GanEvaluator:
    """A generator's workspace beside the evaluator of `rayfed.evaluation`."""

    def __init__(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> None:
        self.config = config
        self.gan = gan_of(config, data.test_images.shape[1], data.classes, processor)
        self.evaluator = Evaluator(config.evaluation, *data[:4], data.key, device=processor)

    def about(self) -> dict[str, str]:
        """The extractors in use by name (the file of their weights, its hash), and the limits of `fid_classifier`."""
        limits = self.evaluator.limits
        extractors = {f"extractor.{name}": source for name, source in self.evaluator.extractors.items()}
        return extractors | (limits.about() if limits else {})

    def evaluate(self, round: int, arrays: Arrays) -> EvaluationResult:
        """Judge a generator's vector. The noise is the same in every round, so grids can be compared."""
        images = self._images(arrays, max(GRID, self.config.evaluation.samples))
        metrics = self.evaluator.evaluate(images[: self.config.evaluation.samples])
        limits = self.evaluator.limits
        warnings = limits.warnings(metrics[FID_CLASSIFIER.name]) if limits else ()
        return EvaluationResult(round, metrics, _pictures(images), warnings)

    def pictures(self, arrays: Arrays) -> Pictures:
        """A grid of a generator's images, of the same noise as in every evaluation."""
        return _pictures(self._images(arrays, GRID))

    def _images(self, arrays: Arrays, count: int) -> npt.NDArray[np.uint8]:
        self.gan.load_models(arrays)
        return self.gan.generate(count, torch_seed(self.config.seed, 0, SERVER, "evaluation"))


def _pictures(images: npt.NDArray[np.uint8]) -> Pictures:
    return {"samples": grid(images[:GRID])}
