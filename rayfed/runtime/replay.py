"""A finished (or running) run's generator, brought back from the store."""

from collections.abc import Iterable
from typing import Any

from rayfed.config import parse, with_overrides
from rayfed.data.setup import prepare
from rayfed.errors import UserError
from rayfed.models.gan import GAN, gan_of
from rayfed.models.networks import ARCHITECTURES
from rayfed.runtime.judge import judge_of
from rayfed.store import Commit, Store


def _last(store: Store, run_id: str) -> tuple[Any, Commit]:
    record, commit = store.run(run_id), store.latest(run_id)
    if commit is None:
        raise UserError(f"run {run_id} has no committed round yet; wait for its first")
    return record, commit


def generator(store: Store, run_id: str) -> GAN:
    """The GAN of a run's last commit, its generator loaded."""
    record, commit = _last(store, run_id)
    gan = gan_of(parse(record.config), record.facts["channels"], len(record.facts["class_counts"][0]))
    gan.load_models({"generator": commit.arrays["generator"]})
    return gan


def evaluate(store: Store, run_id: str, overrides: Iterable[str]) -> dict[str, Any]:
    """FID metrics of a run's last commit; `overrides` may change how it is evaluated, not the run."""
    record, commit = _last(store, run_id)
    config = with_overrides(parse(record.config), overrides)
    data = prepare(config, ARCHITECTURES[config.model.name].side).dataset
    verdict = judge_of(config, data).evaluate(commit.round, commit.arrays["generator"])
    return {"run": run_id, "round": commit.round, **verdict.metrics}
