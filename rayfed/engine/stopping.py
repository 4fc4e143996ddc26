"""Ending a run before its last round, by what its evaluations say."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from rayfed.config import RunConfig
from rayfed.engine.callbacks import Callback, History
from rayfed.errors import UserError, counted
from rayfed.methods.spec import method_of
from rayfed.report.numbers import shown
from rayfed.tasks.base import EvaluationResult, Metric


class EarlyStopping(Callback):
    """Ends a run when its metric reaches `target`, or has not got better in the last `patience` evaluations.

    `metric` is a name such as `fid`; None means the run's primary metric. The task says which direction is better.
    """

    waits: ClassVar[bool] = True

    def __init__(self, metric: str | None = None, patience: int | None = None, target: float | None = None) -> None:
        self.metric, self.patience, self.target = metric, patience, target

    def on_begin(self, config: RunConfig, history: History) -> None:
        """Raises UserError for a metric that the run's task does not know."""
        known = method_of(config).task.metrics
        self._candidates = [metric for metric in known if self.metric in (None, metric.name)]
        if not self._candidates:
            names = ", ".join(metric.name for metric in known)
            raise UserError(f"stop.metric = {self.metric!r}: must be one of {names}")
        self._history: list[Mapping[str, float]] = [metrics for _, metrics in history]

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        """Raises UserError when the metric was not measured."""
        if not result.metrics:
            return
        metric = next((each for each in self._candidates if each.name in result.metrics), None)
        if metric is None:
            measured = ", ".join(result.metrics)
            raise UserError(f"stop.metric = {self.metric!r}: was not measured; what was: {measured}")
        self._history.append(result.metrics)
        self.stop_reason = self._reason(metric, [each[metric.name] for each in self._history if metric.name in each])

    def _reason(self, metric: Metric, values: list[float]) -> str | None:
        """Why the run ends after these values of its metric, the last of which is new; None if it goes on."""
        last, finite = values[-1], [value for value in values if math.isfinite(value)]
        if self.target is not None and math.isfinite(last) and metric.worst([last, self.target]) == self.target:
            return f"{metric.label} {shown(last)} has reached {shown(self.target)}"
        if self.patience is None:
            return None
        since = len(values) - 1 - values.index(metric.best(finite)) if finite else len(values)
        if since < self.patience:
            return None
        best = f" than {shown(metric.best(finite))}" if finite else ""
        return f"{metric.label} has not got better{best} in {counted(self.patience, 'evaluation')}"
