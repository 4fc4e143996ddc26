"""What happens after a round: callbacks of the driver, called in the order in which it has them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from rayfed.engine.checkpoint import Checkpoint
from rayfed.report.numbers import shown
from rayfed.report.pictures import save_picture
from rayfed.report.seen import SEEN_CLASS
from rayfed.store import Store
from rayfed.tasks.base import EvaluationResult, Metric
from rayfed.tracking import NoTracker, Tracker

SECTION = "evaluation/"
"""Of MLflow's charts: a name before a slash makes a section, and what has none comes after all sections."""


class Callback:
    """Does nothing; derive from it and override what you want to hear of."""

    def on_start(self, checkpoint: Checkpoint) -> None:
        """A new run stands at round 0. A resumed run does not begin again."""

    def on_round(self, checkpoint: Checkpoint) -> None:
        """A round is over; its metrics are complete but for those of an evaluation."""

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        """An evaluation is there, of this round or an earlier one; its pictures lie in these files."""


class StoreCallback(Callback):
    """Commits every round before anyone else hears of it."""

    def __init__(self, store: Store, run_id: str, keep: int) -> None:
        self._store, self._run_id, self._keep = store, run_id, keep

    def on_start(self, checkpoint: Checkpoint) -> None:
        self._store.commit(self._run_id, checkpoint.commit(), self._keep)

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._store.commit(self._run_id, checkpoint.commit(), self._keep)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        self._store.set_metric(self._run_id, result.round, result.metrics)


class TrackingCallback(Callback):
    """Sends metrics and pictures to MLflow; those of the last evaluation head the run's page."""

    def __init__(self, tracker: Tracker | NoTracker, metrics: Sequence[Metric]) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._names = {metric.name: SECTION + metric.name for metric in metrics}

    def on_round(self, checkpoint: Checkpoint) -> None:
        self.log(checkpoint.round, checkpoint.metrics)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        self.log(result.round, result.metrics)
        for name, path in pictures.items():
            self._tracker.log_image(SECTION + name, path, result.round)
        judged = [metric for metric in self._metrics if metric.name in result.metrics]
        said = ", ".join(_said(metric, result.metrics[metric.name]) for metric in judged)
        self._tracker.describe(f"Round {result.round}: {said or 'not judged'}", pictures)

    def log(self, round: int, metrics: Mapping[str, float]) -> None:
        """Send metrics of the store's history, but for the samples seen of each class, which are a table at the end."""
        sent = {name: value for name, value in metrics.items() if not name.startswith(SEEN_CLASS)}
        self._tracker.log(round, {self._names.get(name, name): value for name, value in sent.items()})


def _said(metric: Metric, value: float) -> str:
    """A metric's value in Markdown."""
    figure = f"**{metric.label} {shown(value)}**"
    return f"{figure} ({metric.detail})" if metric.detail else figure


class Watcher(Protocol):
    """Who watches a run, in words: the console, a notebook, or nobody."""

    def notice(self, text: str) -> None:
        """One line for the user."""

    def live(self, start: int) -> AbstractContextManager[None]:
        """Open while rounds go on, from round `start`."""


def save_pictures(result: EvaluationResult, folder: Path) -> dict[str, Path]:
    """An evaluation's pictures as files of the run's folder, by name."""
    return {
        name: save_picture(picture, folder / f"{name}-{result.round:05d}.png")
        for name, picture in result.pictures.items()
    }
