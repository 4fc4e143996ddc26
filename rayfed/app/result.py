"""How a run ended, and what there is of it: its metrics as a table, its pictures, its trained network."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayfed.config import RunConfig
from rayfed.data.population import Population
from rayfed.errors import UserError
from rayfed.methods.spec import method_of
from rayfed.store import Status, Store
from rayfed.tasks.base import Task, primary

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

History = list[tuple[int, dict[str, float], list[int]]]
"""(round, metrics, participants) of every round; round 0 is the initial state."""
EVALUATION_PICTURE = re.compile(r"(?P<name>.+)-\d{5,}\.png")
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

    def generator(self) -> "nn.Module":
        """The trained network in evaluation mode: a GAN's generator maps noise [n, latent] to images [n, C, H, W]."""
        return self.task.export(self.config, self.population, self.arrays()).network

    def samples(self, count: int = 64, seed: int = 0) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Images of the trained generator, uint8 [count, C, H, W]."""
        images: np.ndarray[Any, np.dtype[np.uint8]] = self.task.samples(
            self.config, self.population, self.arrays(), count, seed
        )
        return images

    def arrays(self) -> dict[str, Any]:
        """The server's learning state after the last committed round. Raises UserError when there is none."""
        store = Store(self.store)
        try:
            commit = store.latest(self.run_id)
        finally:
            store.close()
        if commit is None:
            raise UserError(f"run {self.run_id} has no committed round yet; wait for its first")
        return commit.arrays

    def summary(self) -> dict[str, Any]:
        """The run in figures: its task's metrics first, best and last, images/s, bytes a round, where to look.

        The newest picture of each kind that evaluations draw is there under its name, as a path.
        """
        rounds = [metrics for _, metrics, _ in self.history[1:]]
        figures: dict[str, Any] = {"run": self.run_id, "status": self.status, "rounds": len(rounds)}
        for metric in self.task.metrics:
            if values := [metrics[metric.name] for metrics in rounds if metric.name in metrics]:
                figures[metric.name] = {"first": values[0], "best": metric.best(values), "last": values[-1]}
        if rounds:
            seconds = sum(metrics["seconds"] for metrics in rounds)
            figures["images_per_s"] = sum(metrics["images"] for metrics in rounds) / seconds
            figures["bytes_up_per_round"] = sum(metrics["bytes_up"] for metrics in rounds) / len(rounds)
            figures["bytes_down_per_round"] = sum(metrics["bytes_down"] for metrics in rounds) / len(rounds)
        for path in self.pictures:  # of those with a round the last by name is the newest
            if drawn := EVALUATION_PICTURE.fullmatch(path.name):
                figures[drawn["name"]] = os.path.relpath(path)
        return figures | {"mlflow": self.mlflow, "resume": self.resume}

    def last(self) -> tuple[str, float] | None:
        """The label of the primary metric and its last value. None means that the run was never judged."""
        rows = [metrics for _, metrics, _ in self.history]
        metric = primary(self.task.metrics, [rows])
        values = [metrics[metric.name] for metrics in rows if metric and metric.name in metrics]
        return (metric.label, values[-1]) if metric and values else None


def store_url(config: RunConfig) -> str:
    """The store's URL: configured, or SQLite in the runs folder."""
    return config.store.url or f"sqlite:///{Path(config.runs_dir).absolute() / 'rayfed.db'}"


def resume_command(run_id: str, config: RunConfig) -> str:
    """The command that goes on with a run; it names the store unless that is where `rayfed resume` looks by itself."""
    parts = ["rayfed", "resume", run_id]
    if config.store.url:
        parts += ["--store", config.store.url]
    elif config.runs_dir != RunConfig.model_fields["runs_dir"].default:
        parts += ["--runs-dir", config.runs_dir]
    return shlex.join(parts)


def population_of(facts: Mapping[str, Any]) -> Population:
    """What a store's run knows of its data."""
    counts = np.array(facts["class_counts"], np.int64)
    union, whole = (np.array(facts.get(name, counts.sum(axis=0)), np.int64) for name in ("union", "whole"))
    return Population(facts["channels"], counts, union, whole)
