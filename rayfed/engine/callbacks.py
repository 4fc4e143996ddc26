"""What happens after a round: callbacks of the driver, called in the order in which it has them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from rayfed.engine.checkpoint import Checkpoint
from rayfed.report.pictures import save_picture
from rayfed.store import Store
from rayfed.tasks.base import EvaluationResult
from rayfed.tracking import NoTracker, Tracker


class Callback:
    """Does nothing; derive from it and override what you want to hear of."""

    def on_start(self, checkpoint: Checkpoint) -> None:
        """A new run stands at round 0. A resumed run does not begin again."""

    def on_round(self, checkpoint: Checkpoint) -> None:
        """A round is over; its metrics are complete but for those of an evaluation."""

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        """An evaluation is there, of this round or an earlier one; its pictures lie in these files.

        A new run's first is of round 0, the initial state: pictures without metrics.
        """


class StoreCallback(Callback):
    """Commits every round before anyone else hears of it."""

    def __init__(self, store: Store, run_id: str, keep: int) -> None:
        self._store, self._run_id, self._keep = store, run_id, keep

    def on_start(self, checkpoint: Checkpoint) -> None:
        self._store.commit(self._run_id, checkpoint.commit(), self._keep)

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._store.commit(self._run_id, checkpoint.commit(), self._keep)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        if result.metrics:
            self._store.set_metric(self._run_id, result.round, result.metrics)


class TrackingCallback(Callback):
    """Sends metrics and pictures to MLflow."""

    def __init__(self, tracker: Tracker | NoTracker) -> None:
        self._tracker = tracker

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._tracker.log(checkpoint.round, checkpoint.metrics)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        self._tracker.log(result.round, result.metrics)
        for name, path in pictures.items():
            self._tracker.log_image(name, path, result.round)


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
