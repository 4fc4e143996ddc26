"""A task as somebody might write it, with a method for it, in one file: a softmax classifier, judged by its accuracy.

The method is FedAvg (McMahan et al. 2017) with plain gradient descent at `model.lr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayfed import plugins
from rayfed.config import FederatedTraining, Model, RunConfig
from rayfed.data.population import EvaluationData, Population
from rayfed.errors import UserError
from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.protocol import Arrays
from rayfed.methods import fedavg
from rayfed.methods.context import DeviceContext
from rayfed.methods.exchange import Update
from rayfed.methods.spec import MethodSpec
from rayfed.methods.state import State
from rayfed.models.flops import Meter
from rayfed.scheduling.load import Load
from rayfed.tasks.base import EvaluationResult, Export, Metric, Pictures

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSIFIER = "classifier"


@dataclass(frozen=True)
class Softmax:
    """What `model.name` names: one linear layer on the pixels of images of this side."""

    side: int


SOFTMAX = Softmax(8)


def softmax(model: Model) -> Softmax:
    """The Softmax of this name; raises UserError for anything else."""
    found = plugins.load_object("model.name", model.name) if ":" in model.name else None
    if not isinstance(found, Softmax):
        raise UserError(f"model.name = {model.name!r}: must be a Softmax, e.g. toy_classifier:SOFTMAX")
    return found


def network(config: RunConfig, population: Population) -> nn.Module:
    """The untrained network of images [n, C, side, side] in [0, 1]: a score for each class."""
    from torch import nn

    pixels = population.channels * softmax(config.model).side ** 2
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, population.classes))


def images_of(images: np.ndarray) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    import torch

    return torch.from_numpy(images).float() / 255


class ClassifierWorkspace:
    """A network that is loaded with a device's weights when it is that device's turn."""

    def __init__(self, config: RunConfig, population: Population) -> None:
        from rayfed.models import flat

        self.network = network(config, population)
        self.codec = Codec(config.wire, {CLASSIFIER: flat.sizes(self.network)})
        self.meter = Meter()


class ClassifierEvaluator:
    """The classifier on the whole test split."""

    def __init__(self, config: RunConfig, data: EvaluationData) -> None:
        self.data = data
        self.network = network(config, _population(data))

    def about(self) -> dict[str, str]:
        return {"judge": f"{len(self.data.test_images)} test images"}

    def evaluate(self, round: int, arrays: Arrays) -> EvaluationResult:
        """Accuracy and mean cross-entropy."""
        import torch
        from torch.nn.functional import cross_entropy

        scores, labels = self._scores(arrays), self.data.test_labels
        accuracy = float((scores.argmax(dim=1).numpy() == labels).mean())
        metrics = {"accuracy": accuracy, "loss": cross_entropy(scores, torch.from_numpy(labels)).item()}
        return EvaluationResult(round, metrics, self.pictures(arrays))

    def pictures(self, arrays: Arrays) -> Pictures:
        """The confusion matrix: a row per true class, white where all of it is."""
        confusion = np.zeros((self.data.classes, self.data.classes))
        np.add.at(confusion, (self.data.test_labels, self._scores(arrays).argmax(dim=1).numpy()), 1)
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        return {"confusion": np.rint(255 * shares).astype(np.uint8)}

    def _scores(self, arrays: Arrays) -> Tensor:
        import torch

        from rayfed.models import flat

        flat.vector_to_module(arrays[CLASSIFIER], self.network)
        with torch.inference_mode():
            scores: Tensor = self.network(images_of(self.data.test_images))
        return scores


def _population(data: EvaluationData) -> Population:
    held = np.bincount(data.train_labels, minlength=data.classes)
    return Population(data.train_images.shape[1], held[None], held, held)


class ClassifierTask:
    """Trains, judges and exports a classifier."""

    name = "toy-classifier"
    metrics = (Metric("accuracy", "accuracy", lower_is_better=False), Metric("loss", "loss"))

    def side(self, model: Model) -> int:
        return softmax(model).side

    def workspace(self, config: RunConfig, population: Population, processor: str = "cpu") -> ClassifierWorkspace:
        return ClassifierWorkspace(config, population)

    def values(self, config: RunConfig, population: Population) -> dict[str, int]:
        return self.workspace(config, population).codec.lengths

    def check(self, config: RunConfig) -> str | None:
        return None

    def evaluator(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> ClassifierEvaluator:
        return ClassifierEvaluator(config, data)

    def outcome(self, arrays: Arrays) -> Arrays:
        return arrays

    def export(self, config: RunConfig, population: Population, arrays: Arrays) -> Export:
        from rayfed.models import flat

        side, trained = softmax(config.model).side, network(config, population).eval()
        flat.vector_to_module(arrays[CLASSIFIER], trained)
        return Export(CLASSIFIER, trained, (population.channels, side, side))

    def samples(self, config: RunConfig, population: Population, arrays: Arrays, count: int, seed: int) -> Any:
        raise UserError(f"{config.method.name}: a classifier draws no images")


TASK = ClassifierTask()


class Device:
    """Gradient descent on the device's images; it owns nothing between rounds."""

    def __init__(self, context: DeviceContext[ClassifierWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        """E steps on batches of B."""
        import torch
        from torch.nn.functional import cross_entropy

        from rayfed.models import flat

        workspace, shard, lr = self.context.workspace, self.context.shard, self.context.config.model.lr
        flat.vector_to_module(workspace.codec.decode(models)[CLASSIFIER], workspace.network)
        losses = []
        for samples in shard.indices(load.batch, round, 0, load.iterations):
            images, labels = images_of(shard.images[samples]), torch.from_numpy(shard.labels[samples])
            workspace.network.zero_grad()
            with workspace.meter.measure("step", len(images)):
                loss = cross_entropy(workspace.network(images), labels)
                loss.backward()
            with torch.no_grad():
                for parameter in workspace.network.parameters():
                    parameter -= lr * parameter.grad
            losses.append(loss.item())
        trained = {CLASSIFIER: flat.module_to_vector(workspace.network)}
        return Update(shard.client, workspace.codec.encode(trained), load, {"loss_train": float(np.mean(losses))})


class Server(fedavg.FedGanServer):
    """FedAvg's own round, weighted by samples, from a network that knows nothing."""

    def init(self) -> State:
        codec = self.context.workspace.codec
        return State(0, {CLASSIFIER: np.zeros(codec.length, np.float32)}, sampler=self.scheduler.start())


METHOD = MethodSpec(
    name="toy-fedavg",
    about="FedAvg of a softmax classifier",
    settings=FederatedTraining,
    server=Server,
    device=Device,
    trains=(CLASSIFIER,),
    task_name="toy_classifier:TASK",
)
