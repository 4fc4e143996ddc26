"""A driver of a Ray job keeps its runs where they last, and tells how to go on from outside the cluster."""

import json
from pathlib import Path

import pytest

from rayfed import rayjob
from rayfed.app.result import resume_command
from rayfed.config import parse
from rayfed.config.run import default_runs_dir


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The environment of a job's driver; its home."""
    metadata = {"job_submission_id": "fegan-1", "rayfed_driver_cpus": "1"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {}, "metadata": metadata}))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAYFED_RUNS_DIR", raising=False)
    return tmp_path


def test_a_jobs_runs_outlive_its_working_directory(job, monkeypatch):
    assert default_runs_dir() == str(job / "rayfed-runs")
    assert parse({"method": {"name": "fegan"}}).runs_dir == str(job / "rayfed-runs")
    monkeypatch.setenv("RAYFED_RUNS_DIR", "/mnt/runs")
    assert default_runs_dir() == "/mnt/runs"


def test_a_jobs_run_is_resumed_by_another_job(job):
    config = {"method": {"name": "fegan"}}
    assert resume_command("fegan-1", parse(config)) == "rayfed submit --resume fegan-1"
    elsewhere = parse(config | {"runs_dir": "/mnt/runs"})
    assert resume_command("fegan-1", elsewhere) == "rayfed submit --resume fegan-1 --runs-dir /mnt/runs"


def test_the_driver_knows_the_cpus_that_it_holds(job, monkeypatch):
    assert rayjob.driver_cpus() == 1
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    assert rayjob.driver_cpus() == 0


def test_outside_of_a_job_all_is_as_ever(monkeypatch):
    monkeypatch.delenv("RAYFED_RUNS_DIR", raising=False)
    assert (rayjob.is_driver(), rayjob.driver_cpus(), default_runs_dir()) == (False, 0, "rayfed-runs")
    assert resume_command("fegan-1", parse({"method": {"name": "fegan"}})) == "rayfed resume fegan-1"
