"""`rayfed rm`: a run is gone from the list and its folder from the disk, and nothing else is."""

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from rayfed.engine.lease import driving, process_facts
from rayfed.store import Store
from tests.test_cli import TINY, Outcome, rayfed

SMALL: dict[str, Any] = TINY | {"rounds": 1, "evaluation": {"every": 0}}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, list[str], Store]:
    """A folder with two runs, their ids, and their store."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SMALL))
    ids = []
    for _ in range(2):
        outcome = rayfed(tmp_path, "run", "run.yaml", "--local", "--json")
        assert outcome.code == 0, outcome.err
        ids.append(outcome.json["run"])
    return tmp_path, ids, Store(f"sqlite:///{tmp_path}/rayfed-runs/rayfed.db")


def listed(folder: Path) -> list[str]:
    return [row["run"] for row in rayfed(folder, "list", "--json").json]


def test_a_removed_run_is_gone_from_the_list_and_its_folder_and_the_other_stays(two):
    folder, (gone, stays), store = two
    before = store.latest(stays)
    assert listed(folder) == [gone, stays]
    assert rayfed(folder, "rm", gone) == Outcome(0, f"removed {gone}\n", "")
    assert listed(folder) == [stays]
    assert not (folder / "rayfed-runs" / gone).exists()
    assert (folder / "rayfed-runs" / stays / "run.png").exists()
    after = store.latest(stays)
    assert after.arrays["generator"].tobytes() == before.arrays["generator"].tobytes()
    assert after.devices.keys() == before.devices.keys() != set()
    outcome = rayfed(folder, "rm", gone)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"rayfed: no run '{gone}' in sqlite:")


def test_of_a_removed_run_the_database_keeps_nothing(two):
    """What it held of it must not grow the file for ever, nor come back under the same name."""
    folder, (gone, _), store = two
    rayfed(folder, "rm", gone)
    assert store.history(gone) == []
    assert store.latest(gone) is None
    assert list(store.events(gone)) == []
    store.create_run(gone, {}, {})
    assert store.latest(gone) is None


def test_a_run_that_goes_on_is_not_removed_and_one_that_was_killed_is(two):
    """Its driver is this process; then one that is gone."""
    folder, (run, _), store = two
    store.set_status(run, "running")
    message = f"run {run} is still running in process {os.getpid()} on {socket.gethostname()}; stop that first"
    with driving(store, run):
        assert rayfed(folder, "rm", run) == Outcome(2, "", f"rayfed: {message}\n")
        assert run in listed(folder)
        assert (folder / "rayfed-runs" / run).is_dir()
    gone = process_facts() | {"began": 0.0}
    store.take_lease(run, gone, 3600)
    assert rayfed(folder, "rm", run) == Outcome(0, f"removed {run}\n", "")
    assert run not in listed(folder)


def test_a_run_whose_folder_is_gone_already_can_be_removed(two):
    folder, (run, _), _ = two
    shutil.rmtree(folder / "rayfed-runs" / run)
    assert rayfed(folder, "rm", run) == Outcome(0, f"removed {run}\n", "")


def test_runs_elsewhere_are_removed_from_there(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SMALL | {"runs_dir": "other"}))
    run = rayfed(tmp_path, "run", "run.yaml", "--local", "--json").json["run"]
    assert (tmp_path / "other" / run / "run.png").exists()
    assert rayfed(tmp_path, "rm", run, "--runs-dir", "other") == Outcome(0, f"removed {run}\n", "")
    assert not (tmp_path / "other" / run).exists()


def test_what_mlflow_has_of_a_removed_run_stays(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SMALL | {"tracking": {"enabled": True}}))
    run = rayfed(tmp_path, "run", "run.yaml", "--local", "--json").json["run"]
    assert rayfed(tmp_path, "rm", run).code == 0
    client = MlflowClient(f"sqlite:///{tmp_path}/rayfed-runs/mlflow.db")
    [tracked] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    assert (tracked.info.run_name, tracked.info.status) == (f"{run}, seed 0", "FINISHED")
    assert Path(tracked.info.artifact_uri.removeprefix("file://"), "run.png").exists()
