"""Runs that are there: found, listed, removed."""

import shutil
from pathlib import Path
from typing import Any

from rayfed.app.result import Result, population_of, resume_command, store_url
from rayfed.config import RunConfig, parse
from rayfed.engine.lease import is_alive, is_dead
from rayfed.errors import UserError
from rayfed.methods.spec import method_of
from rayfed.store import RunRecord, Store


def open_store(runs_dir: str, url: str | None) -> Store:
    """The store of a runs folder, or of a URL; raises UserError when there is none."""
    path = Path(runs_dir).absolute() / "rayfed.db"
    if url is None and not path.exists():
        raise UserError(f"no runs in {path.parent}; name their folder with --runs-dir or their database with --store")
    return Store(url or f"sqlite:///{path}")


def config_of(record: RunRecord, runs_dir: str, url: str | None) -> RunConfig:
    """A stored run's configuration, with the place where its store and files are now."""
    return parse(record.config if url else {**record.config, "runs_dir": runs_dir})


def load(run_id: str, runs_dir: str, url: str | None = None) -> Result:
    """A run of a runs folder, or of a store by URL, as far as it has come. Raises UserError if there is none such."""
    store = open_store(runs_dir, url)
    try:
        record = store.run(run_id)
        config = config_of(record, runs_dir, url)
        return Result(
            run_id=run_id,
            status=record.status,
            config=config,
            history=store.history(run_id),
            folder=Path(config.runs_dir).absolute() / run_id,
            store=url or store_url(config),
            population=population_of(record.facts),
            mlflow=None,
            resume=None if record.status == "finished" else resume_command(run_id, config),
        )
    finally:
        store.close()


def rows(store: Store) -> list[dict[str, Any]]:
    """A row for each run: its state, rounds, and the best of each metric by which any of the runs was judged."""
    found = []
    measured: dict[str, None] = {}
    for record in store.runs():
        history = [metrics for _, metrics, _ in store.history(record.id)]
        best = _best(record, history)
        measured |= dict.fromkeys(best)
        found.append((record, best))
    return [_row(record) | {f"best_{name}": best.get(name) for name in measured} for record, best in found]


def _row(record: RunRecord) -> dict[str, Any]:
    killed = record.status == "running" and is_dead(record.facts)
    return {
        "run": record.id,
        "method": record.config["method"]["name"],
        "data": record.config["data"]["name"],
        "state": "killed" if killed else record.status,
        "rounds": max(record.rounds or 0, 0),
        "of": record.config["rounds"],
        "began": record.created.isoformat(timespec="seconds"),
    }


def _best(record: RunRecord, history: list[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        metrics = method_of(parse(record.config)).task.metrics
    except UserError:  # a method of a package that is not installed any more
        return found
    for metric in metrics:
        if values := [row[metric.name] for row in history if metric.name in row]:
            found[metric.name] = round(metric.best(values), 3)
    return found


def remove(store: Store, run_id: str, runs_dir: Path) -> None:
    """Delete a run from the store, and its folder. Raises UserError when there is none such, or it still runs."""
    record = store.run(run_id)
    if record.status == "running" and is_alive(record.facts):
        raise UserError(f"run {run_id} is still running in process {record.facts['pid']}; stop that first")
    store.remove(run_id)
    shutil.rmtree(runs_dir / run_id, ignore_errors=True)
