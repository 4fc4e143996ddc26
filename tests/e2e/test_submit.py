"""`rayfed submit` and the commands about jobs, on a Ray head of their own with token authentication."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest
import ray
from mlflow import MlflowClient

import rayfed
from rayfed.store import Store
from tests.e2e.commands import environment, store_of
from tests.e2e.heads import COMMAND_S, Head, head

JOB = """
method: {name: fegan, fraction: 1.0, iterations: 10, batch: 8}
devices: {count: 2}
data: {partition: iid}
model: {name: "own:PAIR", width: 4}
resources: {hosts: 1}
evaluation: {every: 0}
"""
OWN = """
from rayfed.models.networks import architecture

PAIR = architecture("dcgan28")
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head(cpus=8) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's working directory: a job, a network of the user's own, and what is not to be sent."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "small.yaml").write_text(JOB)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def store(cluster: Head) -> Store:
    return Store(f"sqlite:///{cluster.runs_dir}/rayfed.db")


def job_of(out: str) -> str:
    """The id that `submit` has told."""
    return next(line.split()[1] for line in out.splitlines() if line.startswith("job ") and "is submitted" in line)


@pytest.mark.slow
def test_two_jobs_at_once_are_two_runs_each_under_one_name(cluster, folder):
    command = ("submit", "jobs/small.yaml", "rounds=3")
    processes = [cluster.start(folder, *command, f"seed={seed}") for seed in (1, 2)]
    outs = [process.communicate(timeout=COMMAND_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outs
    client = MlflowClient(f"sqlite:///{cluster.runs_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("rayfed").experiment_id
    tracked = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
    for seed, out in zip((1, 2), outs, strict=True):
        job = job_of(out)
        assert "round 3/3  " in out, out
        assert f"{job} (finished, 3 rounds)" in out
        record = store(cluster).run(job)
        assert (record.status, record.config["seed"], record.config["model"]["name"]) == ("finished", seed, "own:PAIR")
        assert tracked[f"{job}, seed {seed}"] == "FINISHED"
    _, listed = cluster.rayfed(folder, "jobs", "--json")
    told = {job["id"]: job for job in json.loads(listed)}
    assert set(map(job_of, outs)) <= told.keys()
    assert told[job_of(outs[0])]["metadata"] == {
        "rayfed_run": job_of(outs[0]),
        "rayfed_version": rayfed.__version__,
        "rayfed_driver_cpus": "0.5",
        "mlflow_experiment": "rayfed",
        "mlflow_run_name": f"{job_of(outs[0])}, seed 1",
    }
    assert not [name for name in told if name.startswith("rayfed-version")]


@pytest.mark.long
@pytest.mark.slow
def test_a_job_that_was_left_alone_and_stopped_goes_on_to_the_weights_of_one_that_never_was(cluster, folder):
    submitted = cluster.start(folder, "submit", "jobs/small.yaml", "rounds=100000")
    assert submitted.stdout
    seen = []
    for line in submitted.stdout:
        seen.append(line)
        if line.startswith("round 1/"):
            break
    run = job_of("".join(seen))
    submitted.send_signal(signal.SIGINT)
    rest, _ = submitted.communicate(timeout=60)
    assert submitted.returncode == 130
    there = f"{run} --address {cluster.address}`"
    assert f"job {run} goes on: `rayfed attach {there} follows it, `rayfed stop {there} ends it" in rest
    code, out = cluster.rayfed(folder, "status", run)
    assert code == 0
    assert "running" in out

    attached = cluster.start(folder, "attach", run)
    code, out = cluster.rayfed(folder, "stop", run)
    assert code == 0
    assert f"job {run} is stopped; `rayfed submit --resume {there} goes on with its run" in out
    followed, _ = attached.communicate(timeout=COMMAND_S)
    assert attached.returncode == 130
    assert f"{run} (interrupted, " in followed
    assert f"rayfed submit --resume {run}\n" in followed
    committed = store(cluster).run(run)
    assert committed.status == "interrupted"
    done = committed.rounds
    assert done >= 1

    code, out = cluster.rayfed(folder, "submit", "--resume", run, f"rounds={done + 2}")
    assert code == 0, out
    assert job_of(out) == f"{run}-resume-1"
    assert store(cluster).run(run).rounds == done + 2
    expected, found = whole(folder, done + 2), store(cluster).latest(run)
    assert found.round == done + 2
    assert expected.keys() == found.arrays.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def whole(folder: Path, rounds: int) -> dict[str, np.ndarray]:
    """The learning state of the run that nobody stopped, made in one process."""
    command = [sys.executable, "-m", "rayfed", "run", "jobs/small.yaml", f"rounds={rounds}", "--local", "--id", "whole"]
    own = environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(command, cwd=folder, env=own, check=True, timeout=COMMAND_S, capture_output=True)
    return store_of(folder).latest("whole").arrays


@pytest.mark.slow
def test_a_jobs_exit_code_and_its_one_line_are_those_of_its_driver(cluster, folder):
    code, out = cluster.rayfed(folder, "submit", "jobs/small.yaml", "data.name=npz:/nowhere/images.npz")
    assert code == 2
    assert "data.name: /nowhere/images.npz is read on the cluster; it is not sent\n" in out
    assert "rayfed: data.name = 'npz:/nowhere/images.npz': " in out
    assert "Traceback" not in out
    run = job_of(out)
    assert f"job {run} has failed\n" in out
    code, logged = cluster.rayfed(folder, "logs", run)
    assert (code, "rayfed: data.name = 'npz:/nowhere/images.npz': " in logged) == (0, True)
    assert cluster.rayfed(folder, "attach", run)[0] == 2
    code, out = cluster.rayfed(folder, "status", run, "--json")
    assert (code, json.loads(out)["state"], json.loads(out)["exit_code"]) == (0, "failed", 2)
    code, out = cluster.rayfed(folder, "stop", run)
    assert (code, out) == (0, f"job {run} has ended already\n")


@pytest.mark.long
@pytest.mark.slow
def test_a_comparison_is_one_job(cluster, folder):
    base = "\n  ".join(["base:", *(line for line in JOB.strip().splitlines() if not line.startswith("method"))])
    runs = "runs:\n" + "".join(
        f"  {name}: {{method: {{name: {name}, fraction: 1.0, iterations: 2, batch: 8}}}}\n" for name in NAMES
    )
    (folder / "jobs" / "both.yaml").write_text(f"{base}\n{runs}")
    code, out = cluster.rayfed(folder, "submit", "jobs/both.yaml", "rounds=2", "devices=[2]")
    assert code == 0, out
    comparison = job_of(out)
    found = {record.facts["name"] for record in store(cluster).runs() if record.facts.get("comparison") == comparison}
    assert found == set(NAMES)
    assert (cluster.runs_dir / comparison / "comparison.csv").exists()


NAMES = ("fegan", "fedgan")


@pytest.mark.slow
def test_rays_own_command_submits_a_run_as_well(cluster, folder):
    """Its results lie where `rayfed submit` puts them, not in the job's folder, which Ray throws away."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--submission-id", "plain"]
    command += ["--working-dir", ".", "--", sys.executable, "-m", "rayfed", "run", "jobs/small.yaml", "rounds=2"]
    environment = cluster.environment(RAY_ADDRESS=cluster.address)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=COMMAND_S)
    assert done.returncode == 0, done.stdout + done.stderr
    run = next(line.split()[1] for line in done.stdout.splitlines() if "(finished, 2 rounds)" in line)
    assert store(cluster).run(run).status == "finished"


@pytest.mark.long
@pytest.mark.slow
def test_a_cluster_without_rayfed_gets_it_as_a_wheel(folder, tmp_path_factory):
    """Its Python has what rayfed needs; pip takes the wheel alone, from what was sent."""
    with head(cpus=4, python=python_without_rayfed(tmp_path_factory.mktemp("lean"))) as lean:
        code, out = lean.rayfed(folder, "submit", "jobs/small.yaml", "rounds=2")
        assert code == 0, out
        assert store(lean).run(job_of(out)).status == "finished"


def python_without_rayfed(folder: Path) -> str:
    """A Python with every package of this one but rayfed, by links."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    links, version = folder / "links", f"python{sys.version_info.major}.{sys.version_info.minor}"
    links.mkdir()
    for path in Path(ray.__file__).parents[1].iterdir():
        if not path.name.startswith(("rayfed", "__editable__", "pip")) and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    (folder / "venv" / "lib" / version / "site-packages" / "links.pth").write_text(f"{links}\n")
    return str(folder / "venv" / "bin" / "python")


@pytest.mark.slow
def test_a_head_without_a_cpu_for_the_driver_is_refused_at_once(folder):
    with head(cpus=0) as small:
        code, out = small.rayfed(folder, "submit", "jobs/small.yaml")
    assert code == 3
    assert out.startswith(
        "rayfed: the head node has 0 CPU, and a job's driver needs 0.5 there; start it with --num-cpus=1"
    )
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster wants its token"),
        ({"RAY_AUTH_TOKEN": "f" * 64}, "the cluster wants its token"),
        ({"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"}, "http://127.0.0.1:1: no Ray cluster answers"),
        ({"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:bad"}, "no Ray cluster answers"),
    ],
)
def test_a_cluster_that_does_not_let_one_in_is_one_line(cluster, folder, changes, said):
    code, out = cluster.rayfed(folder, "submit", "jobs/small.yaml", **changes)
    assert (code, said in out, out.count("\n")) == (2, True, 1), out


def test_a_job_that_is_not_there_is_one_line(cluster, folder):
    for command in ("logs", "attach"):
        code, out = cluster.rayfed(folder, command, "nobody")
        said = f"rayfed: job 'nobody' is not on {cluster.address}; `rayfed jobs` shows those that are\n"
        assert (code, out) == (2, said), command


class Answers(BaseHTTPRequestHandler):
    """A server that answers some paths with these texts, and others with 404."""

    texts: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        text = self.texts.get(self.path)
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(texts: dict[str, str]) -> Iterator[str]:
    handler = type("Handler", (Answers,), {"texts": texts})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("texts", [{}, {"/api/version": "[]"}])
def test_a_port_of_something_else_is_one_line(cluster, folder, texts):
    with serving(texts) as address:
        code, out = cluster.rayfed(folder, "jobs", "--address", address)
    assert code == 2
    assert out.startswith(f"rayfed: {address} answers, but not as a Ray dashboard (")
    assert out.count("\n") == 1


def test_a_cluster_with_another_ray_is_refused(cluster, folder):
    about = {"result": True, "data": {"rayVersion": "2.9.0", "pythonVersion": "3.11.7"}}
    texts = {"/api/version": json.dumps({"version": "4", "ray_version": "2.9.0"})}
    with serving(texts | {"/api/v0/cluster_metadata": json.dumps(about)}) as address:
        code, out = cluster.rayfed(folder, "submit", "jobs/small.yaml", "--address", address)
    here = f"here is Ray {ray.__version__}; install the same version"
    assert (code, out) == (2, f"rayfed: {address}: the cluster has Ray 2.9.0, and {here}\n")
