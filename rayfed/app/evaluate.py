"""The evaluation of a run as it was last committed."""

from collections.abc import Callable, Iterable
from typing import Any

from rayfed.config import parse, with_overrides
from rayfed.data.setup import prepare
from rayfed.errors import UserError
from rayfed.methods.spec import method_of
from rayfed.store import Store


def evaluate(store: Store, run_id: str, overrides: Iterable[str], notice: Callable[[str], None]) -> dict[str, Any]:
    """The task's metrics of a run's last commit; `overrides` may change how it is evaluated, not the run.

    `notice` hears which of the metrics say little, a line each.
    Raises UserError for other overrides, and for a run without a committed round.
    """
    chosen = list(overrides)
    for override in chosen:
        if not override.startswith(("evaluation.", "data.root=")):
            raise UserError(f"{override}: would change the run itself; only evaluation.* and data.root can change")
    record, commit = store.run(run_id), store.latest(run_id)
    if commit is None:
        raise UserError(f"run {run_id} has no committed round yet; wait for its first")
    config = with_overrides(parse(record.config), chosen)
    task = method_of(config).task
    data = prepare(config, task.side(config.model)).evaluation_data
    result = task.evaluator(config, data).evaluate(commit.round, task.outcome(commit.arrays))
    for warning in result.warnings:
        notice(warning)
    return {"run": run_id, "round": commit.round, **result.metrics}
