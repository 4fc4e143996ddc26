"""The classification task: one network, judged by its accuracy on the test images. Torch is imported when needed."""

from typing import TYPE_CHECKING, Any

import numpy as np

from rayfed.config import Model, RunConfig
from rayfed.data.population import EvaluationData, Population
from rayfed.errors import UserError
from rayfed.fleet.protocol import Arrays
from rayfed.tasks.base import Export, Metric

if TYPE_CHECKING:
    from rayfed.tasks.classification.evaluator import ClassifierEvaluator
    from rayfed.tasks.classification.workspace import ClassifierWorkspace

ACCURACY = Metric("accuracy", "accuracy", lower_is_better=False)
LOSS = Metric("loss", "loss")
CLASSIFIER = "classifier"
"""The whole network."""
DEVICE_PART, SERVER_PART = "device_part", "server_part"
"""f_a and f_b, its two halves."""


class ClassificationTask:
    """Trains a classifier, whole or cut in two."""

    name = "classification"
    metrics = (ACCURACY, LOSS)

    def side(self, model: Model) -> int:
        """See `Task.side`."""
        from rayfed.models.classifiers import classifier

        return classifier(model.name).side

    def workspace(self, config: RunConfig, population: Population, processor: str = "cpu") -> "ClassifierWorkspace":
        """See `Task.workspace`."""
        from rayfed.tasks.classification.workspace import ClassifierWorkspace

        return ClassifierWorkspace(config, population.channels, population.classes, processor)

    def values(self, config: RunConfig, population: Population) -> dict[str, int]:
        """See `Task.values`."""
        return {name: sum(sizes) for name, sizes in self.workspace(config, population).sizes.items()}

    def check(self, config: RunConfig) -> str | None:
        """See `Task.check`."""
        known = [metric.name for metric in self.metrics]
        if config.stop.metric is not None and config.stop.metric not in known:
            raise UserError(f"stop.metric = {config.stop.metric!r}: is not measured; what is: {', '.join(known)}")
        return None

    def evaluator(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> "ClassifierEvaluator":
        """See `Task.evaluator`."""
        from rayfed.tasks.classification.evaluator import ClassifierEvaluator

        return ClassifierEvaluator(config, data, processor)

    def outcome(self, arrays: Arrays) -> Arrays:
        """The whole network: parameters of f_a come before those of f_b."""
        if CLASSIFIER in arrays:
            return {CLASSIFIER: arrays[CLASSIFIER]}
        return {CLASSIFIER: np.concatenate([arrays[DEVICE_PART], arrays[SERVER_PART]])}

    def export(self, config: RunConfig, population: Population, arrays: Arrays) -> Export:
        """The network of images [n, C, side, side] in [-1, 1]: a score for each class."""
        workspace, side = self.workspace(config, population), self.side(config.model)
        workspace.load_whole(self.outcome(arrays)[CLASSIFIER])
        return Export(CLASSIFIER, workspace.network.eval(), (population.channels, side, side))

    def samples(self, config: RunConfig, population: Population, arrays: Arrays, count: int, seed: int) -> Any:
        """Raises UserError: a classifier draws no images."""
        raise UserError(f"{config.method.name}: a classifier draws no images")
