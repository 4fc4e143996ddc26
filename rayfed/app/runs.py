"""Runs that are there: found, loaded, removed."""

import secrets
import shutil
import socket
from pathlib import Path

from rayfed.app.result import Result, population_of, resume_command, states_place, store_url
from rayfed.config import RunConfig, parse
from rayfed.config.run import default_store_url
from rayfed.engine.lease import LEASE_S, is_driven
from rayfed.errors import UserError
from rayfed.fleet.states import StateFolder
from rayfed.store import RunRecord, Store


def new_id(name: str) -> str:
    """A fresh id for a run of a method, or for a comparison of this name; of a dotted name it has the last part."""
    slug = name.rpartition(":")[0].rpartition(".")[2] if ":" in name else name
    return f"{slug}-{secrets.token_hex(3)}"


def open_store(runs_dir: str, url: str | None) -> Store:
    """The store of a URL, or of RAYFED_STORE_URL, or of a runs folder; raises UserError when there is none."""
    url = url or default_store_url()
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


def refuse_driven(record: RunRecord) -> None:
    """Raise UserError for a run that a process which may live drives, wherever that is."""
    holder = record.holder
    if holder is None or not is_driven(holder):
        return
    gone = "" if holder["host"] == socket.gethostname() else f"; if that is gone, try again in {LEASE_S:g} s"
    where = f"process {holder['pid']} on {holder['host']}"
    raise UserError(f"run {record.id} is still running in {where}; stop that first{gone}")


def remove(store: Store, name: str, runs_dir: Path) -> list[str]:
    """Delete a run, or a comparison with all of its runs, from the store, and the folders; the ids of the runs.

    Raises UserError when there is none such, or one still runs.
    """
    of_comparison = [record for record in store.runs() if record.facts.get("comparison") == name]
    records = of_comparison or [store.run(name)]
    for record in records:
        refuse_driven(record)
    for record in records:
        StateFolder(states_place(record.id, runs_dir, record.config.get("store", {}).get("states"))).clear()
        store.remove(record.id)
        shutil.rmtree(runs_dir / record.id, ignore_errors=True)
    if of_comparison:
        shutil.rmtree(runs_dir / name, ignore_errors=True)
    return [record.id for record in records]
