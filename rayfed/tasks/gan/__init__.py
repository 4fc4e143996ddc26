"""The GAN task: a generator and a discriminator, judged by the generator's FID. Torch is imported when it is needed."""

from typing import TYPE_CHECKING

from rayfed.config import Model, RunConfig
from rayfed.data.population import EvaluationData, Population
from rayfed.errors import UserError
from rayfed.fleet.protocol import Arrays
from rayfed.tasks.base import Export, Metric

if TYPE_CHECKING:
    import numpy as np

    from rayfed.tasks.gan.evaluator import GanEvaluator
    from rayfed.tasks.gan.workspace import GanWorkspace

FID = Metric("fid", "FID", "Inception's features")
FID_CLASSIFIER = Metric("fid_classifier", "FID", "classifier's features")
GENERATOR = "generator"


class GanTask:
    """Trains (G, D); judges and exports G."""

    name = "gan"
    metrics = (FID, FID_CLASSIFIER)

    def side(self, model: Model) -> int:
        """See `Task.side`."""
        from rayfed.models.networks import architecture

        return architecture(model.name).side

    def workspace(self, config: RunConfig, population: Population, processor: str = "cpu") -> "GanWorkspace":
        """See `Task.workspace`."""
        from rayfed.tasks.gan.workspace import GanWorkspace

        return GanWorkspace(config, population.channels, population.classes, processor)

    def values(self, config: RunConfig, population: Population) -> dict[str, int]:
        """See `Task.values`."""
        return {name: sum(sizes) for name, sizes in self.workspace(config, population).gan.sizes.items()}

    def check(self, config: RunConfig) -> str | None:
        """See `Task.check`."""
        from rayfed.evaluation import evaluator

        warning, found = evaluator.check(config.evaluation), evaluator.measured(config.evaluation)
        if config.stop.metric is not None and config.stop.metric not in found:
            raise UserError(f"stop.metric = {config.stop.metric!r}: is not measured; what is: {', '.join(found)}")
        return warning

    def evaluator(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> "GanEvaluator":
        """See `Task.evaluator`."""
        from rayfed.tasks.gan.evaluator import GanEvaluator

        return GanEvaluator(config, data, processor)

    def outcome(self, arrays: Arrays) -> Arrays:
        """The generator."""
        return {GENERATOR: arrays[GENERATOR]}

    def export(self, config: RunConfig, population: Population, arrays: Arrays) -> Export:
        """The generator of noise [n, latent]; a conditional one takes noise followed by a one-hot class."""
        gan = self.workspace(config, population).gan
        gan.load_models(self.outcome(arrays))
        return Export(GENERATOR, gan.generator.eval(), (gan.latent,))

    def samples(
        self, config: RunConfig, population: Population, arrays: Arrays, count: int, seed: int
    ) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
        """Images of the generator, uint8 [count, C, H, W], of noise keyed by `seed`."""
        gan = self.workspace(config, population).gan
        gan.load_models(self.outcome(arrays))
        return gan.generate(count, seed)
