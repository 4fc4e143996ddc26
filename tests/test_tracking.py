import hashlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow.data
import numpy as np
import PIL.Image
import pytest
import torch
from mlflow import MlflowClient

from rayfed import config
from rayfed.data.datasets import Dataset
from rayfed.errors import UserError
from rayfed.tasks.base import Metric
from rayfed.tracking import NoTracker, Tracker
from rayfed.tracking.models import Judged, registered_name
from rayfed.tracking.origin import input_of


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A SQLite store that has been through MLflow's migrations, which take seconds."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/new/mlflow.db"
    MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture(autouse=True)
def _no_uri_in_the_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def track(uri, tmp_path, experiment="rayfed", **arguments):
    """A tracker whose URI comes from the config."""
    fields = {"run_name": "r", "params": {}, "tags": {}} | arguments
    section = config.Tracking(uri=uri, experiment=experiment)
    return Tracker(section, "sqlite:////dev/null/never.db", str(tmp_path / "artifacts"), **fields)


def steps(client, run_id, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_two_processes_begin_with_a_new_database_at_once(tmp_path):
    code = """
import sys, time
from pathlib import Path
from rayfed import config
from rayfed.tracking import Tracker
Path(sys.argv[2]).touch()
while not all(map(Path.exists, map(Path, sys.argv[2:]))): time.sleep(0.01)
tracker = Tracker(config.Tracking(uri=sys.argv[1]), "", None, "r", {}, {})
print(tracker.run_id, tracker.close("FINISHED"))
"""
    uri, marks = f"sqlite:///{tmp_path}/mlflow.db", [str(tmp_path / name) for name in "ab"]
    commands = [[sys.executable, "-c", code, uri, *order] for order in (marks, marks[::-1])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, **pipes) for command in commands]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    assert sorted(f"{run.info.run_id} None" for run in runs) == sorted(text.strip().splitlines()[-1] for text in said)


def test_a_run_reads_back_through_a_fresh_client(uri, tmp_path):
    params = {"method.name": "fegan", "rounds": 3, "long": "x" * 20_000}
    tracker = track(uri, tmp_path, params=params, tags={"host": "a", "long": "y" * 20_000})
    for round in range(3):
        tracker.log(round, {"loss_g": 1 / (round + 1), "kl_seen": np.float32(0.5)})
    (tmp_path / "note.txt").write_text("one")
    PIL.Image.new("L", (4, 2), 7).save(tmp_path / "grid.png")
    tracker.log_file(tmp_path / "note.txt", "notes")
    tracker.log_image("samples", tmp_path / "grid.png", step=2)
    tracker.set_tag("extractor", "classifier")
    assert tracker.close("FINISHED") is None

    client = MlflowClient(uri)
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.info.run_name, run.info.experiment_id) == ("FINISHED", "r", tracker.experiment_id)
    assert run.data.params["method.name"] == "fegan"
    assert "x" * 400 in run.data.params["long"]
    assert run.data.tags["host"] == "a"
    assert steps(client, run.info.run_id, "loss_g") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert steps(client, run.info.run_id, "kl_seen") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert run.info.artifact_uri.startswith((tmp_path / "artifacts").as_uri())
    assert tracker.look().endswith(f"mlflow ui --backend-store-uri {uri}")
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "notes" / "note.txt").read_text() == "one"
    assert run.data.tags["extractor"] == "classifier"
    [image] = (folder / "images").glob("samples*step*2*.png")
    assert PIL.Image.open(image).getpixel((3, 1)) == 7  # grey stays grey


def test_metrics_that_are_not_finite_do_not_fail_the_run(uri, tmp_path):
    tracker = track(uri, tmp_path)
    tracker.log(0, {"a": math.nan, "b": math.inf, "c": 1.0})
    assert tracker.close("FAILED") is None
    run = MlflowClient(uri).get_run(tracker.run_id)
    assert run.info.status == "FAILED"
    assert math.isnan(run.data.metrics["a"])
    assert run.data.metrics["b"] > 1e308
    assert run.data.metrics["c"] == 1.0


def test_a_continued_run_keeps_its_steps_once(uri, tmp_path):
    first = track(uri, tmp_path, params={"rounds": 3})
    first.log(0, {"fid": 9.0})
    first.log(1, {"fid": 8.0})
    assert first.close("KILLED") is None
    second = track(uri, tmp_path, params={"rounds": 5}, run_id=first.run_id)
    client = MlflowClient(uri)
    assert client.get_run(first.run_id).info.status == "RUNNING"
    for step in range(3):
        second.log(step, {"fid": 9.0 - step})
    assert second.close("FINISHED") is None
    assert (second.run_id, second.experiment_id) == (first.run_id, first.experiment_id)
    assert steps(client, first.run_id, "fid") == [(0, 9.0), (1, 8.0), (2, 7.0)]


def test_what_mlflow_refuses_is_told_and_takes_nothing_with_it(uri, tmp_path):
    tracker = track(uri, tmp_path)
    tracker.log(0, {"good": 1.0, "no=good": 2.0})
    tracker.log_file(tmp_path / "missing.png")
    line = tracker.close("FINISHED")
    assert "1 metrics, 1 files" in line
    assert "\n" not in line
    run = MlflowClient(uri).get_run(tracker.run_id)
    assert (run.data.metrics, run.info.status) == ({"good": 1.0}, "FINISHED")


def test_the_uri_is_the_configs_else_the_environments_else_the_default(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracker = Tracker(config.Tracking(), "sqlite:////dev/null/x.db", str(tmp_path), "r", {}, {})
    assert tracker.uri == uri
    tracker.close("FINISHED")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracker = Tracker(config.Tracking(), uri, str(tmp_path), "r", {}, {})
    assert tracker.uri == uri
    tracker.close("FINISHED")


@pytest.mark.parametrize("bad", ["http://127.0.0.1:9", "sqlite:////dev/null/x.db", "nonsense://u:secret@x", "text"])
def test_a_uri_that_cannot_be_used_is_one_line_at_once(bad, tmp_path):
    (tmp_path / "text.db").write_text("not a database" * 100)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^tracking\.uri = .*cannot be used") as caught:
        track(f"sqlite:///{tmp_path}/text.db" if bad == "text" else bad, tmp_path)
    assert time.monotonic() - start < 5
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_run_is_one_line(uri, tmp_path):
    with pytest.raises(UserError, match="not found"):
        track(uri, tmp_path, run_id="0" * 32)


def test_a_data_set_is_an_input_of_a_run_once(uri, tmp_path):
    """The digest is worked out by hand: the shape and the bytes of each array."""
    images, labels = np.zeros((6, 3, 2, 4), np.uint8), np.arange(6) % 2
    data = Dataset("photographs", images, labels, images[:5], labels[:5], ("cat", "dog"))
    digest = hashlib.sha256(b"(6, 3, 2, 4)" + bytes(144) + b"(6,)" + labels.tobytes())
    digest.update(b"(5, 3, 2, 4)" + bytes(120) + b"(5,)" + labels[:5].tobytes())
    first = track(uri, tmp_path)
    first.log_input(input_of(data))
    assert first.close("KILLED") is None
    again = track(uri, tmp_path, run_id=first.run_id)
    again.log_input(input_of(data))
    assert again.close("FINISHED") is None
    [given] = MlflowClient(uri).get_run(first.run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("photographs", digest.hexdigest()[:8])
    profile = {"training images": 6, "test images": 5, "image shape": [3, 2, 4], "classes": 2}
    assert json.loads(given.dataset.profile) == profile
    assert {tag.key: tag.value for tag in given.tags} == {"mlflow.data.context": "training"}
    assert mlflow.data.get_source(given).to_dict() == {"tags": {"data.name": "photographs"}}


def test_a_description_follows_upon_its_own_and_never_upon_a_users(uri, tmp_path):
    client = MlflowClient(uri)

    def described(*texts, run_id=None):
        tracker = track(uri, tmp_path, run_id=run_id)
        for text in texts:
            tracker.describe(text, {})
        assert tracker.close("FINISHED") is None
        return tracker.run_id, client.get_run(tracker.run_id).data.tags["mlflow.note.content"]

    run, text = described("Round 1: **FID 9**", "Round 2: **FID 8**")
    assert text == "Round 2: **FID 8**"
    assert described("Round 3: **FID 7**", run_id=run)[1] == "Round 3: **FID 7**"
    client.set_tag(run, "mlflow.note.content", "mine")
    assert described("Round 4: **FID 6**", run_id=run)[1] == "mine"


class Generator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(5, 12), torch.nn.BatchNorm1d(12), torch.nn.Tanh())

    def forward(self, z):
        return self.body(z).view(-1, 3, 2, 2)


def test_a_logged_generator_makes_any_number_of_images(uri, tmp_path):
    generator = Generator()
    z = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    expected = generator.eval()(torch.from_numpy(z)).detach().numpy()
    generator.train()
    tracker = track(uri, tmp_path, experiment="generators")
    tracker.log_model("generator", generator, (5,))
    with torch.no_grad():
        generator.body[0].weight.zero_()  # what happens after the call must not be seen
    assert tracker.close("FINISHED") is None
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert generator.training

    [model] = MlflowClient(uri).search_logged_models([tracker.experiment_id])
    assert (model.name, model.source_run_id) == ("generator", tracker.run_id)
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(model.model_uri)
    finally:
        mlflow.set_tracking_uri(None)
    for n in (1, 3, 7):
        np.testing.assert_allclose(loaded.predict(z[:n]), expected[:n], atol=1e-6)


def registered(uri, tmp_path, name, *judged):
    """Each judgement with a run and a model of its own; a client."""
    for each in judged:
        tracker = track(uri, tmp_path, experiment="generators")
        tracker.log_model("generator", Generator(), (5,))
        tracker.register("generator", name, each)
        assert tracker.close("FINISHED") is None
    return MlflowClient(uri)


def aliases(client, name):
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def test_the_best_version_is_the_best_of_those_that_were_judged_as_the_newest_was(uri, tmp_path):
    assert registered_name("gan", "npz:my data/x.npz") == "rayfed-gan-npz-my-data-x.npz"
    name = registered_name("gan", "clothes")
    fid, other = "fid, 1000 samples", "fid_classifier, 1000 samples"
    client = registered(uri, tmp_path, name, Judged(30.0, True, fid), Judged(20.0, True, fid), Judged(25.0, True, fid))
    assert aliases(client, name) == {"last": 3, "best": 2}
    registered(uri, tmp_path, name, Judged(1.5, True, other))
    assert aliases(client, name) == {"last": 4, "best": 4}
    registered(uri, tmp_path, name, None)
    assert aliases(client, name) == {"last": 5, "best": 4}
    registered(uri, tmp_path, name, Judged(24.0, True, fid))
    assert aliases(client, name) == {"last": 6, "best": 2}
    version = client.get_model_version_by_alias(name, "best")
    assert version.tags == {"value": "20.0", "judged_by": fid}
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{name}@best")
    finally:
        mlflow.set_tracking_uri(None)
    assert loaded.predict(np.zeros((3, 5), np.float32)).shape == (3, 3, 2, 2)


def test_a_version_that_is_registered_again_stays_one_and_higher_can_be_better(uri, tmp_path):
    tracker = track(uri, tmp_path, experiment="generators")
    tracker.log_model("generator", Generator(), (5,))
    for _ in range(2):
        tracker.register("generator", "rayfed-accuracy", Judged(0.5, False, "accuracy"))
    assert tracker.close("FINISHED") is None
    client = registered(uri, tmp_path, "rayfed-accuracy", Judged(0.9, False, "accuracy"))
    assert aliases(client, "rayfed-accuracy") == {"last": 2, "best": 2}


def test_an_experiment_is_of_model_training_unless_somebody_said_otherwise(uri, tmp_path):
    client = MlflowClient(uri)
    client.create_experiment("mine", tags={"mlflow.experimentKind": "genai_development"})
    client.create_experiment("unmarked")
    for name, kind in (("new one", "custom_model_development"), ("unmarked", "custom_model_development")):
        track(uri, tmp_path, experiment=name).close("FINISHED")
        assert client.get_experiment_by_name(name).tags["mlflow.experimentKind"] == kind
    track(uri, tmp_path, experiment="mine").close("FINISHED")
    assert client.get_experiment_by_name("mine").tags["mlflow.experimentKind"] == "genai_development"


def test_a_run_has_its_command_and_revision_without_passwords(uri, tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for arguments in (["init", "-q", "-b", "trunk"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/bin/rayfed", "run", "a b.yaml", "store.url=postgresql://u:secret@host/x"])
    first = track(uri, tmp_path)
    assert first.close("KILLED") is None
    monkeypatch.setattr(sys, "argv", ["/bin/rayfed", "resume", "x"])
    assert track(uri, tmp_path, run_id=first.run_id).close("FINISHED") is None
    tags = MlflowClient(uri).get_run(first.run_id).data.tags
    assert tags["mlflow.source.name"] == "rayfed run 'a b.yaml' 'store.url=postgresql://u:***@host/x'"
    assert (tags["mlflow.source.type"], tags["mlflow.source.git.commit"]) == ("LOCAL", head)
    monkeypatch.chdir("/")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    second = track(uri, tmp_path)
    assert second.close("FINISHED") is None
    tags = MlflowClient(uri).get_run(second.run_id).data.tags
    assert (tags["mlflow.source.type"], tags["ray_job"]) == ("JOB", "raysubmit_1")
    assert "mlflow.source.git.commit" not in tags


def test_the_machine_is_sampled_until_the_run_ends_and_again_when_it_goes_on(uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker = track(uri, tmp_path)
    tracker.watch_system()
    time.sleep(2)
    assert tracker.close("KILLED") is None
    again = track(uri, tmp_path, run_id=tracker.run_id)
    again.watch_system()
    time.sleep(1)
    assert again.close("FINISHED") is None
    client = MlflowClient(uri)
    used = [value for _, value in steps(client, tracker.run_id, "system/system_memory_usage_percentage")]
    assert len(used) > 3
    assert all(0 < value < 100 for value in used)
    assert {"system/cpu_utilization_percentage"} <= client.get_run(tracker.run_id).data.metrics.keys()


def test_a_comparisons_page_is_a_view_of_its_runs_alone(uri, tmp_path):
    tracker = track(uri, tmp_path, experiment="compared")
    page = tracker.show_charts("cmp-1", [Metric("fid", "FID")], ["samples"], 8)
    assert tracker.close("FINISHED") is None
    assert page == (
        f"#/experiments/{tracker.experiment_id}/runs"
        "?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=cmp-1"
    )
    client = MlflowClient(uri)
    view = json.loads(client.get_experiment(tracker.experiment_id).tags["mlflow.sharedViewState.cmp-1"])
    for tags in ({"comparison": "cmp-1"}, {"comparison": "cmp-1", "run": "r"}, {"comparison": "cmp-2", "run": "r"}):
        client.create_run(tracker.experiment_id, tags=tags)
    [found] = client.search_runs([tracker.experiment_id], view["searchFilter"], order_by=[view["orderByKey"]])
    assert found.data.tags.items() >= {"comparison": "cmp-1", "run": "r"}.items()
    assert [(card["type"], card.get("metricKey"), card.get("step")) for card in view["compareRunCharts"]] == [
        *[("LINE", "evaluation/fid", None)] * 3,
        ("IMAGE", None, 8),
    ]


QUIET_RUN = """
import sys, torch
from rayfed import config
from rayfed.tracking import Tracker
tracker = Tracker(config.Tracking(), sys.argv[1], sys.argv[2], "r", {"long": "x" * 9000}, {})
tracker.log(0, {"a": 1.0})
tracker.log_model("g", torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Unflatten(1, (1, 2, 2))), (3,))
assert tracker.close("FINISHED") is None
"""


@pytest.mark.slow
def test_a_first_run_prints_nothing(tmp_path):
    command = [sys.executable, "-c", QUIET_RUN, f"sqlite:///{tmp_path}/first.db", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_server(uri, port, tmp_path):
    """A real tracking server, in a process group of its own; returns when it answers."""
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", uri, "--artifacts-destination", str(tmp_path / "served")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (tmp_path / "server.log").open("a")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return server
        except OSError:
            time.sleep(0.1)
    raise AssertionError((tmp_path / "server.log").read_text())


def kill(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def test_a_server_that_goes_away_loses_nothing_and_stalls_nobody(uri, port, tmp_path):
    server = start_server(uri, port, tmp_path)
    try:
        tracker = track(f"http://127.0.0.1:{port}", tmp_path, experiment="served")
        for step in range(50):
            tracker.log(step, {"loss": float(step), "nan": math.nan})
        kill(server)
        start = time.monotonic()
        for step in range(50, 2100):
            tracker.log(step, {"loss": float(step)})
        assert time.monotonic() - start < 2.05  # 1 ms a call
        (tmp_path / "note.txt").write_text("sent later")
        tracker.log_file(tmp_path / "note.txt")
        time.sleep(1)
        server = start_server(uri, port, tmp_path)
        assert tracker.close("FINISHED") is None
    finally:
        kill(server)
    client = MlflowClient(uri)
    assert steps(client, tracker.run_id, "loss") == [(step, float(step)) for step in range(2100)]
    assert [step for step, _ in steps(client, tracker.run_id, "nan")] == list(range(50))
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    page = f"#/experiments/{tracker.experiment_id}/runs/{tracker.run_id}?workflowType=machine_learning"
    assert tracker.look() == f"http://127.0.0.1:{port}/{page}"
    [note] = (tmp_path / "served").rglob("note.txt")
    assert note.read_text() == "sent later"


def test_a_server_that_stays_away_is_told_in_one_line_in_time(uri, port, tmp_path):
    server = start_server(uri, port, tmp_path)
    try:
        tracker = track(f"http://127.0.0.1:{port}", tmp_path, experiment="served")
    finally:
        kill(server)
    tracker.log(0, {"a": 1.0, "b": 2.0})
    start = time.monotonic()
    line = tracker.close("KILLED", timeout_s=1)
    assert time.monotonic() - start < 2
    assert line.startswith(f"MLflow at http://127.0.0.1:{port}: could not send 2 metrics, 1 status (")
    assert "\n" not in line


def test_no_tracker_takes_every_call():
    tracker, calls = NoTracker(), [name for name in vars(Tracker) if not name.startswith("_")]
    queued = ["log", "watch_system", "log_file", "log_image", "describe", "log_input", "set_tag", "log_model"]
    assert calls == [*queued, "register", "show_charts", "end", "wait", "close", "look"]
    assert [name for name in calls if not callable(getattr(tracker, name))] == []
    assert tracker.close("FINISHED") is None
    assert tracker.run_id is None
