"""What `rayfed list` and `rayfed show` tell: each run in a row, and one run in full."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rayfed.app.result import Result
from rayfed.config import parse
from rayfed.engine.lease import is_driven
from rayfed.errors import UserError
from rayfed.methods.spec import method_of
from rayfed.store import RunRecord, Store

Row = dict[str, Any]


def rows(store: Store) -> list[Row]:
    """A row for each run, oldest first; before those of a comparison, one for the comparison.

    `seconds` is the wall clock of the rounds; `best_NAME` and `last_NAME` are of each metric by which any of the runs
    was judged, None where the run was not.
    """
    found: list[Row] = []
    measured: dict[str, None] = {}
    for record in store.runs():
        row, judged = _row(record), _judged(record, history := [each for _, each, _ in store.history(record.id)])
        row["seconds"] = round(sum(metrics.get("seconds", 0.0) for metrics in history), 1)
        measured |= dict.fromkeys(name.partition("_")[2] for name in judged)
        found.append(row | judged)
    names = [f"{which}_{name}" for name in measured for which in ("best", "last")]
    return [row | {name: row.get(name) for name in names} for row in _with_comparisons(found)]


def _row(record: RunRecord) -> Row:
    killed = record.status == "running" and not is_driven(record.holder)
    return {
        "run": record.id,
        "comparison": record.facts.get("comparison"),
        "name": record.facts.get("name"),
        "method": record.config["method"]["name"],
        "data": record.config["data"]["name"],
        "seed": record.config["seed"],
        "state": "killed" if killed else record.status,
        "rounds": max(record.rounds or 0, 0),
        "of": record.config["rounds"],
        "began": record.created.isoformat(timespec="seconds"),
    }


def _judged(record: RunRecord, history: list[dict[str, float]]) -> dict[str, float]:
    """The best and the last value of each of the task's metrics."""
    found: dict[str, float] = {}
    try:
        metrics = method_of(parse(record.config)).task.metrics
    except UserError:  # a method of a package that is not installed any more
        return found
    for metric in metrics:
        if values := [row[metric.name] for row in history if metric.name in row]:
            found[f"best_{metric.name}"] = round(metric.best(values), 3)
            found[f"last_{metric.name}"] = round(values[-1], 3)
    return found


def _with_comparisons(runs: Sequence[Row]) -> list[Row]:
    """The rows of a comparison's runs together, behind one that sums them up."""
    groups: dict[str, list[Row]] = {}
    for row in runs:
        groups.setdefault(row["comparison"] or row["run"], []).append(row)
    found = []
    for name, members in groups.items():
        found += [_summed(name, members), *members] if members[0]["comparison"] else members
    return found


def _summed(comparison: str, members: Sequence[Row]) -> Row:
    states = [row["state"] for row in members]
    state = next(each for each in ("running", "killed", "failed", "interrupted", "finished") if each in states)
    seeds = sorted({row["seed"] for row in members})
    totals = {name: sum(row[name] for row in members) for name in ("rounds", "of", "seconds")}
    return {
        "run": comparison,
        "comparison": None,
        "name": None,
        "method": f"comparison of {len(members)}",
        "data": members[0]["data"],
        "seed": ", ".join(map(str, seeds)),
        "state": state,
        **totals,
        "seconds": round(totals["seconds"], 1),
        "began": min(row["began"] for row in members),
    }


def document(result: Result, store: Store) -> dict[str, Any]:
    """One run in full, as JSON.

    `summary` is that of its closing table; `config` the whole configuration, `changed` its keys that are not the
    default; `history` a row per round; `mlflow_run` MLflow's id of it; `kept` the rounds that `--round` may name;
    `artifacts` its files.
    """
    record = store.run(result.run_id)
    row = _row(record)
    kept = sorted({*store.states(record.id), *store.outcomes(record.id)})
    return {
        "summary": result.summary() | {"status": row["state"]},
        **{name: row[name] for name in ("comparison", "name", "began")},
        "seconds": round(sum(metrics["seconds"] for metrics in result.metrics), 1),
        "stop_reason": record.facts.get("stop_reason"),
        "mlflow_run": record.facts.get("mlflow_run"),
        "best_round": result.best_round,
        "kept": kept,
        "config": result.config.model_dump(mode="json"),
        "changed": result.config.model_dump(mode="json", exclude_defaults=True),
        "history": result.metrics,
        "artifacts": [str(path) for path in sorted(Path(result.folder).glob("*")) if path.is_file()],
    }
