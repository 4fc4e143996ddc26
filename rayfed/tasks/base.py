"""A task: what a run trains and by what it is judged. Nothing here needs torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from rayfed.config import Model, RunConfig
from rayfed.data.population import EvaluationData, Population
from rayfed.fleet.protocol import Arrays
from rayfed.models.flops import Meter

if TYPE_CHECKING:
    from torch import nn


Pictures = dict[str, npt.NDArray[np.uint8]]
"""By name, each [H, W] (grey) or [H, W, 3] (RGB)."""


@dataclass(frozen=True)
class Metric:
    """A figure by which a state is judged, and which direction of it is better."""

    name: str
    """In the history, in MLflow and in JSON."""
    label: str
    """For people, e.g. FID."""
    detail: str = ""
    """What tells it from another metric with the same label, e.g. the feature space."""
    lower_is_better: bool = True

    def best(self, values: Iterable[float]) -> float:
        """The best of these values."""
        return min(values) if self.lower_is_better else max(values)

    def reaches(self, values: npt.NDArray[np.float64], target: float) -> npt.NDArray[np.bool_]:
        """Which of these values [n] are at least as good as the target."""
        return values <= target if self.lower_is_better else values >= target

    def worst(self, values: Iterable[float]) -> float:
        """The worst of these values."""
        return max(values) if self.lower_is_better else min(values)


@dataclass(frozen=True)
class EvaluationResult:
    """How a state was judged after `round`. A run's initial state, round 0, is only drawn: it has no metrics."""

    round: int
    metrics: dict[str, float]
    pictures: Pictures
    warnings: tuple[str, ...] = ()
    """Lines for the user: which of the metrics say little, and why."""


@dataclass(frozen=True)
class EvaluationFailure:
    """An evaluation that could not be made, and why, in one line."""

    reason: str


class Evaluator(Protocol):
    """Judges states beside the training."""

    def about(self) -> dict[str, str]:
        """What it judges with, by name, for MLflow's tags."""

    def evaluate(self, round: int, arrays: Arrays) -> EvaluationResult:
        """Judge what `Task.outcome` gave of the state after `round`."""

    def pictures(self, arrays: Arrays) -> Pictures:
        """The pictures of an evaluation of what `Task.outcome` gave, without its metrics."""


def judged(evaluator: Evaluator, round: int, arrays: Arrays) -> EvaluationResult:
    """The evaluation of the state after `round`; of the initial state only the pictures."""
    return evaluator.evaluate(round, arrays) if round else EvaluationResult(round, {}, evaluator.pictures(arrays))


class Export(NamedTuple):
    """A trained network in evaluation mode, its name, and the shape of one of its inputs (float32)."""

    name: str
    network: "nn.Module"
    input_shape: tuple[int, ...]


class Workspace(Protocol):
    """One process's networks, optimizers and codecs: what of them is the task's own, only its methods know."""

    @property
    def meter(self) -> Meter:
        """Of this process; the twin's clock goes by it."""


class Task(Protocol):
    """What a run trains and by what it is judged."""

    @property
    def name(self) -> str:
        """For MLflow's tags and the model registry."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """In the order of preference: the primary metric of a run is the first of these that it measured."""

    def side(self, model: Model) -> int:
        """Pixels of an image's side, as the networks take it. Raises UserError for networks that there are not."""

    def workspace(self, config: RunConfig, population: Population, processor: str = "cpu") -> Workspace:
        """One process's networks, optimizers and codecs, which methods of this task work with."""

    def values(self, config: RunConfig, population: Population) -> dict[str, int]:
        """How many values each network has, parameters and buffers, by name.

        Raises UserError for networks that do not build.
        """

    def check(self, config: RunConfig) -> str | None:
        """A line for the user about how the run will be judged. Raises UserError when it cannot be."""

    def evaluator(self, config: RunConfig, data: EvaluationData, processor: str = "cpu") -> Evaluator:
        """Who judges the states of a run."""

    def outcome(self, arrays: Arrays) -> Arrays:
        """What of the server's learning state is judged and exported."""

    def export(self, config: RunConfig, population: Population, arrays: Arrays) -> Export:
        """The trained network of `outcome`'s arrays."""

    def samples(self, config: RunConfig, population: Population, arrays: Arrays, count: int, seed: int) -> Any:
        """Images to look at, uint8 [count, C, H, W]. Raises UserError for a task that draws none."""


def primary(metrics: Sequence[Metric], histories: Iterable[Iterable[Mapping[str, float]]]) -> Metric | None:
    """The first metric that all of these histories measured, of those that measured any; None when none did."""
    names = [metric.name for metric in metrics]
    measured = [{name for each in history for name in each if name in names} for history in histories]
    judged = [found for found in measured if found]
    return next((m for m in metrics if judged and all(m.name in found for found in judged)), None)


def best_round(metrics: Sequence[Metric], history: Sequence[tuple[int, Mapping[str, float]]]) -> int | None:
    """The round with the best value of the primary metric, the earliest of several; None if no value is finite."""
    metric = primary(metrics, [[each for _, each in history]])
    if metric is None:
        return None
    values = {round: each[metric.name] for round, each in history if np.isfinite(each.get(metric.name, np.nan))}
    best = metric.best(values.values()) if values else None
    return next((round for round, value in values.items() if value == best), None)
