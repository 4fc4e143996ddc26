"""The evaluation of a run as it was last committed."""

from collections.abc import Callable, Iterable
from typing import Any

from rayfed.app.result import Round, outcome_of
from rayfed.config import parse, with_overrides
from rayfed.data.setup import prepare
from rayfed.errors import UserError
from rayfed.methods.spec import method_of
from rayfed.store import Store


def evaluate(
    store: Store,
    run_id: str,
    overrides: Iterable[str],
    round: Round = "last",
    notice: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """The task's metrics of a run after a round; `overrides` may change how it is evaluated, not the run.

    `notice` hears which of the metrics say little, a line each. Raises UserError for other overrides, and for a round
    that is not kept.
    """
    chosen = list(overrides)
    for override in chosen:
        if not override.startswith(("evaluation.", "data.root=")):
            raise UserError(f"{override}: would change the run itself; only evaluation.* and data.root can change")
    config = with_overrides(parse(store.run(run_id).config), chosen)
    number, outcome = outcome_of(store, run_id, config, round)
    task = method_of(config).task
    data = prepare(config, task.side(config.model)).evaluation_data
    result = task.evaluator(config, data).evaluate(number, outcome)
    for warning in result.warnings:
        notice(warning)
    return {"run": run_id, "round": number, **result.metrics}
