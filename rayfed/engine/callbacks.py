"""What happens after a round: callbacks of the driver, called in the order in which it has them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Protocol

from rayfed.config import RunConfig
from rayfed.engine.checkpoint import Checkpoint
from rayfed.errors import counted
from rayfed.fleet.states import StateFolder
from rayfed.methods.spec import method_of
from rayfed.report.numbers import shown
from rayfed.report.pictures import save_picture
from rayfed.report.seen import SEEN_CLASS
from rayfed.store import Store
from rayfed.tasks.base import EvaluationResult, Metric, best_round
from rayfed.tracking import NoTracker, Tracker
from rayfed.tracking.pages import SECTION, TRAFFIC

History = Sequence[tuple[int, Mapping[str, float]]]
"""(round, metrics) of the committed rounds, in order."""


class Callback:
    """Does nothing; derive from it and override what you want to hear of."""

    waits: ClassVar[bool] = False
    """Whether the run waits for every evaluation before it goes on. A callback that ends the run by what an evaluation
    says needs it: otherwise the round in which the run ends would depend on the speed of the machine."""
    stop_reason: str | None = None
    """Set it to a reason, in a few words, and the run ends after the round."""

    def on_begin(self, config: RunConfig, history: History) -> None:
        """Before anything else, of a resumed run too, whose `history` is that of its committed rounds."""

    def on_start(self, checkpoint: Checkpoint) -> None:
        """A new run stands at round 0. A resumed run does not begin again."""

    def on_round(self, checkpoint: Checkpoint) -> None:
        """A round is over; its metrics are complete but for those of an evaluation."""

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        """An evaluation is there, of this round or an earlier one; its pictures lie in these files.

        A new run's first is of round 0, the initial state: pictures without metrics.
        """

    def on_end(self, checkpoint: Checkpoint) -> None:
        """The last round is over and judged, or the run was told to stop. A run that fails does not get here."""


class StoreCallback(Callback):
    """Commits every round before anyone else hears of it, and keeps what was judged best."""

    def __init__(self, store: Store, run_id: str, states: StateFolder | None = None) -> None:
        """`states`: the folder of the device states that are files."""
        self._store, self._run_id, self._states = store, run_id, states

    def on_begin(self, config: RunConfig, history: History) -> None:
        self._config, self._task = config, method_of(config).task
        self._judged = [(round, metrics) for round, metrics in history if self._is_judged(metrics)]
        self._dropped = self._superseded()

    def on_start(self, checkpoint: Checkpoint) -> None:
        self._commit(checkpoint)

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._commit(checkpoint)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        if not result.metrics:
            return
        if self._is_judged(result.metrics):
            self._judged.append((result.round, result.metrics))
        superseded = self._superseded()
        self._store.set_metric(self._run_id, result.round, result.metrics, superseded - self._dropped)
        self._dropped |= superseded

    def _superseded(self) -> set[int]:
        """The judged rounds but for the best: what was judged of them is not kept."""
        return {round for round, _ in self._judged} - {best_round(self._task.metrics, self._judged)}

    def _is_judged(self, metrics: Mapping[str, float]) -> bool:
        return any(metric.name in metrics for metric in self._task.metrics)

    def _commit(self, checkpoint: Checkpoint) -> None:
        """First the files must be there to stay, then the transaction names them, then others may go."""
        commit = checkpoint.commit()
        if self._config.is_evaluated(checkpoint.round):
            commit = replace(commit, outcome=self._task.outcome(checkpoint.state.arrays))
        if self._states and checkpoint.devices:
            self._states.sync()
        unneeded = self._store.commit(self._run_id, commit, self._config.store.keep)
        if abandoned := {state.name for state in checkpoint.abandoned}:
            unneeded |= abandoned - self._store.files(self._run_id, abandoned)
        if self._states and unneeded:
            self._states.remove(unneeded)


class TrackingCallback(Callback):
    """Sends metrics and pictures to MLflow; those of the last evaluation head the run's page."""

    def __init__(self, tracker: Tracker | NoTracker, metrics: Sequence[Metric]) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._names = {metric.name: SECTION + metric.name for metric in metrics}
        self._traffic = 0.0

    def on_begin(self, config: RunConfig, history: History) -> None:
        self._brief = _brief(config)
        for round, metrics in history:
            self._log_round(round, metrics)  # what was queued when the run was killed; the rest is not sent twice

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._log_round(checkpoint.round, checkpoint.metrics)

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        self._log(result.round, result.metrics)
        for name, path in pictures.items():
            self._tracker.log_image(SECTION + name, path, result.round)
        judged = [metric for metric in self._metrics if metric.name in result.metrics]
        said = ", ".join(_said(metric, result.metrics[metric.name]) for metric in judged)
        self._tracker.describe(f"Round {result.round}: {said or 'not judged'}\n\n{self._brief}", pictures)

    def _log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Send a round's metrics, but for the samples seen of each class, which are a table at the end."""
        self._traffic += metrics.get("bytes_device_max", 0)
        self._log(round, {k: v for k, v in metrics.items() if not k.startswith(SEEN_CLASS)} | {TRAFFIC: self._traffic})

    def _log(self, round: int, metrics: Mapping[str, float]) -> None:
        self._tracker.log(round, {self._names.get(name, name): value for name, value in metrics.items()})


def _brief(config: RunConfig) -> str:
    """What a run is, in Markdown."""
    data, method = config.data, config.method
    return (
        f"`{method.name}` on `{data.name}`, partition `{data.partition}`, {counted(config.devices.count, 'device')}, "
        f"network `{config.model.name}`, {counted(config.rounds, 'round')}, seed {config.seed}"
    )


def _said(metric: Metric, value: float) -> str:
    """A metric's value in Markdown."""
    figure = f"**{metric.label} {shown(value)}**"
    return f"{figure} ({metric.detail})" if metric.detail else figure


class Watcher(Protocol):
    """Who watches a run, in words: the console, a notebook, or nobody."""

    def notice(self, text: str) -> None:
        """One line for the user."""

    def waits_for(self, what: str) -> None:
        """What the run does before its first round, in a few words."""

    def live(self, start: int) -> AbstractContextManager[None]:
        """Open while rounds go on, from round `start`."""


def save_pictures(result: EvaluationResult, folder: Path) -> dict[str, Path]:
    """An evaluation's pictures as files of the run's folder, by name."""
    return {
        name: save_picture(picture, folder / f"{name}-{result.round:05d}.png")
        for name, picture in result.pictures.items()
    }
