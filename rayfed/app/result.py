"""How a run ended, and what there is of it: its metrics as a table, its pictures, its trained network."""

import os
import re
import shlex
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rayfed import rayjob
from rayfed.config import RunConfig
from rayfed.config.run import RUNS_DIR, default_runs_dir, default_store_url
from rayfed.data.population import Population
from rayfed.errors import UserError, mask
from rayfed.fleet.states import StateFolder
from rayfed.methods.spec import method_of
from rayfed.report.numbers import throughput
from rayfed.store import Commit, Status, Store
from rayfed.tasks.base import Export, Task, best_round, primary

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

History = list[tuple[int, dict[str, float], list[int]]]
"""(round, metrics, participants) of every round; round 0 is the initial state."""
Round = int | Literal["last", "best"]
"""A committed round: by number, the last, or the one with the best evaluation."""
EVALUATION_PICTURE = re.compile(r"(?P<name>.+)-(?P<round>\d{5,})\.png")
"""The file of a picture that an evaluation drew: its name, and the round."""


@dataclass(frozen=True)
class Result:
    """A run, as far as it has come."""

    run_id: str
    status: Status
    config: RunConfig
    history: History
    folder: Path
    """Where its pictures and tables lie."""
    store: str
    """The URL of its store."""
    population: Population
    mlflow: str | None
    """How to look at the run in MLflow. None means that it was not tracked, or is not known from here."""
    resume: str | None
    """The command that goes on with it. None means that it is finished."""

    @property
    def task(self) -> Task:
        """What the run trains and by what it is judged."""
        return method_of(self.config).task

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """A row per round: `round` and the metrics of docs/metrics.md."""
        return [{"round": round, **metrics} for round, metrics, _ in self.history if round > 0]

    def dataframe(self) -> "pd.DataFrame":
        """`metrics` as a pandas DataFrame, indexed by round. Raises ImportError where pandas is not installed."""
        import pandas as pd

        return pd.DataFrame(self.metrics).set_index("round")

    @property
    def pictures(self) -> list[Path]:
        """Every picture of the run, by name."""
        return sorted(self.folder.glob("*.png"))

    @property
    def drawn(self) -> dict[str, Path]:
        """The newest picture of each kind that evaluations draw, by its name."""
        found = ((EVALUATION_PICTURE.fullmatch(path.name), path) for path in self.pictures)
        return {match["name"]: path for match, path in found if match}  # by name the last is the newest

    def generator(self, round: Round = "last") -> "nn.Module":
        """The trained network in evaluation mode: a GAN's generator maps noise [n, latent] to images [n, C, H, W].

        `round` is `last`, `best` (of the evaluations), or a number. Raises UserError for a round that is not kept.
        """
        return self.export(round).network

    def export(self, round: Round = "last") -> Export:
        """The trained network of `generator`, its name, and the shape of one of its inputs."""
        return self.task.export(self.config, self.population, self.outcome(round))

    def samples(self, count: int = 64, seed: int = 0, round: Round = "last") -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Images of the trained generator, uint8 [count, C, H, W]; `round` as in `generator`."""
        images: np.ndarray[Any, np.dtype[np.uint8]] = self.task.samples(
            self.config, self.population, self.outcome(round), count, seed
        )
        return images

    def arrays(self) -> dict[str, Any]:
        """The server's learning state after the last committed round. Raises UserError when there is none."""
        with closing(Store(self.store)) as store:
            return last_commit(store, self.run_id).arrays

    def outcome(self, round: Round = "last") -> dict[str, Any]:
        """What the task judges and exports, as it was after a round. Raises UserError for one that is not kept."""
        with closing(Store(self.store)) as store:
            return outcome_of(store, self.run_id, self.config, round)[1]

    @property
    def best_round(self) -> int | None:
        """The round with the best evaluation. None means that the run was never judged."""
        return best_round(self.task.metrics, [(round, metrics) for round, metrics, _ in self.history])

    def summary(self) -> dict[str, Any]:
        """The run in figures: its task's metrics first, best and last, its method's last ones, images/s, bytes a round,
        where to look.

        The newest picture of each kind that evaluations draw is there under its name, as a path.
        """
        rounds = [metrics for _, metrics, _ in self.history[1:]]
        figures: dict[str, Any] = {"run": self.run_id, "status": self.status, "rounds": len(rounds)}
        for metric in self.task.metrics:
            if values := [metrics[metric.name] for metrics in rounds if metric.name in metrics]:
                figures[metric.name] = {"first": values[0], "best": metric.best(values), "last": values[-1]}
        if rounds:
            figures["images_per_s"] = throughput(rounds)
            figures["bytes_up_per_round"] = sum(metrics["bytes_up"] for metrics in rounds) / len(rounds)
            figures["bytes_down_per_round"] = sum(metrics["bytes_down"] for metrics in rounds) / len(rounds)
        closing = method_of(self.config).closing
        if own := {name: metrics[name] for metrics in rounds for name in closing if name in metrics}:
            figures["closing"] = own
        figures |= {name: from_here(path) for name, path in self.drawn.items()}
        return figures | {"mlflow": self.mlflow, "resume": self.resume}

    def last(self) -> tuple[str, float] | None:
        """The label of the primary metric and its last value. None means that the run was never judged."""
        rows = [metrics for _, metrics, _ in self.history]
        metric = primary(self.task.metrics, [rows])
        values = [metrics[metric.name] for metrics in rows if metric and metric.name in metrics]
        return (metric.label, values[-1]) if metric and values else None


def from_here(path: Path) -> str:
    """A path as it is read from the working directory: relative to it if it lies there."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path.absolute())


def last_commit(store: Store, run_id: str) -> Commit:
    """A run's last commit. Raises UserError when there is none."""
    commit = store.latest(run_id)
    if commit is None:
        raise UserError(f"run {run_id} has no committed round yet; wait for its first")
    return commit


def outcome_of(store: Store, run_id: str, config: RunConfig, round: Round) -> tuple[int, dict[str, Any]]:
    """A round's number, and what the task judges and exports as it was then. Raises UserError if it is not kept."""
    task, last = method_of(config).task, last_commit(store, run_id)
    if round in ("last", last.round):
        return last.round, task.outcome(last.arrays)
    best = best_round(task.metrics, [(number, metrics) for number, metrics, _ in store.history(run_id)])
    if round == "best" and best is None:
        raise UserError(f"run {run_id}: no evaluation yet, so no round is the best; take the last")
    number = best if round == "best" else round
    assert isinstance(number, int)
    if (arrays := store.outcome(run_id, number)) is not None:
        return number, arrays
    if (commit := store.latest(run_id, until=number)) and commit.round == number:
        return number, task.outcome(commit.arrays)
    kept = sorted({*store.outcomes(run_id), *store.states(run_id)})
    raise UserError(f"run {run_id}: round {number} is not kept; kept are {', '.join(map(str, kept))}")


def store_url(config: RunConfig) -> str:
    """The store's URL: configured, or RAYFED_STORE_URL, or SQLite in the runs folder."""
    return config.store.url or default_store_url() or f"sqlite:///{Path(config.runs_dir).absolute() / 'rayfed.db'}"


def states_of(run_id: str, config: RunConfig) -> StateFolder:
    """Where the states of a run's devices lie between rounds."""
    return StateFolder(states_place(run_id, config.runs_dir, config.store.states), config.method.narrowed)


def states_place(run_id: str, runs_dir: str | Path, states: str | None) -> str:
    """The folder of a run's device states, a path or a URL; `states` is the configuration's `store.states`."""
    if states is None:
        return str(Path(runs_dir).absolute() / run_id / "states")
    return f"{states.rstrip('/')}/{run_id}"


def resume_command(run_id: str, config: RunConfig) -> str:
    """The command that goes on with a run; it names the store unless that is where `rayfed resume` looks by itself."""
    in_job = rayjob.is_driver()
    parts = ["rayfed", *(["submit", "--resume"] if in_job else ["resume"]), run_id]
    if config.store.url:
        parts += ["--store", mask(config.store.url)]
    elif config.runs_dir != (default_runs_dir() if in_job else RUNS_DIR):
        parts += ["--runs-dir", config.runs_dir]
    return shlex.join(parts)


def population_of(facts: Mapping[str, Any]) -> Population:
    """What a store's run knows of its data."""
    counts = np.array(facts["class_counts"], np.int64)
    union, whole = (np.array(facts.get(name, counts.sum(axis=0)), np.int64) for name in ("union", "whole"))
    return Population(facts["channels"], counts, union, whole)
