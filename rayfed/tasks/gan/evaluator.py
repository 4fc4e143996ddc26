"""Judges a generator: draws its images, gives their FID and a few of them to look at."""

from rayfed.config import RunConfig
from rayfed.data.population import EvaluationData
from rayfed.evaluation.evaluator import Evaluator
from rayfed.evaluation.grid import grid
from rayfed.fleet.protocol import Arrays
from rayfed.models.gan import gan_of
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.base import EvaluationResult

GRID = 64
"""Images in a sample grid."""


class GanEvaluator:
    """A generator's workspace beside the evaluator of `rayfed.evaluation`."""

    def __init__(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> None:
        self.config = config
        self.gan = gan_of(config, data.test_images.shape[1], data.classes, processor)
        self.evaluator = Evaluator(
            config.evaluation, data.train_images, data.train_labels, data.test_images, data.key, device=processor
        )

    def about(self) -> dict[str, str]:
        """The extractors in use by name: the file of their weights and its hash."""
        return {f"extractor.{name}": source for name, source in self.evaluator.extractors.items()}

    def evaluate(self, round: int, arrays: Arrays) -> EvaluationResult:
        """Judge a generator's vector. The noise is the same in every round, so grids can be compared."""
        self.gan.load_models(arrays)
        seed = torch_seed(self.config.seed, 0, SERVER, "evaluation")
        images = self.gan.generate(max(GRID, self.config.evaluation.samples), seed)
        metrics = self.evaluator.evaluate(images[: self.config.evaluation.samples])
        return EvaluationResult(round, metrics, {"samples": grid(images[:GRID])})
