"""What MLflow has of a small run in this process, at whatever point it ends."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

import rayfed as library
from rayfed.engine.callbacks import Callback
from rayfed.engine.checkpoint import Checkpoint
from tests.test_cli import TINY, rayfed

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CENTRALIZED: dict[str, Any] = TINY | {
    "rounds": 3,
    "method": {"name": "centralized", "iterations": 1, "batch": 4},
    "evaluation": {"every": 0},
    "tracking": {"enabled": True},
}
"""It sees all 6,000 images, 600 of each class, in every round."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CENTRALIZED))
    return tmp_path


def tracked(folder: Path) -> Run:
    """The one run in the folder's MLflow."""
    client = MlflowClient(f"sqlite:///{folder}/rayfed-runs/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    return run


def seen(run: Run) -> list[list[str]]:
    """The rows of its table of the samples seen, whose picture is there too."""
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    with Image.open(artifacts / "seen_class.png") as picture:
        assert picture.size == (960, 540)
    with (artifacts / "seen_class.csv").open(newline="") as file:
        return list(csv.reader(file))


def rows(*rounds: int) -> list[list[str]]:
    return [["round", *CLASSES], *([str(round), *[str(600 * round)] * 10] for round in rounds)]


def test_the_samples_seen_of_each_class_are_a_table_and_no_metrics(folder: Path) -> None:
    result = library.run("run.yaml", local=True, progress=False, seed=7)
    run = tracked(folder)
    assert (run.info.run_name, run.info.status) == (f"{result.run_id}, seed 7", "FINISHED")
    assert seen(run) == rows(1, 2, 3)
    assert run.data.metrics["seen_per_class"] == 1800
    assert not [name for name in run.data.metrics if "seen_class" in name]
    assert result.metrics[-1]["seen_class/9"] == 1800


class Interrupt(Callback):
    """Ctrl-C in the second round, which is committed: once, or twice."""

    def __init__(self, presses: int) -> None:
        self.presses = presses

    def on_round(self, checkpoint: Checkpoint) -> None:
        if checkpoint.round == 2:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("presses", [1, 2])
def test_an_interrupted_run_has_the_table_too_and_a_resumed_one_all_of_it(folder: Path, presses: int) -> None:
    result = library.run("run.yaml", local=True, progress=False, callbacks=[Interrupt(presses)])
    run = tracked(folder)
    assert (result.status, run.info.status) == ("interrupted", "KILLED")
    assert seen(run) == rows(1, 2)
    assert rayfed(folder, "resume", result.run_id, "--local").code == 0
    run = tracked(folder)
    assert seen(run) == rows(1, 2, 3)
    [data] = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("fashion-mnist-6k", run.data.tags["dataset_sha256"][:8])


def test_a_finished_run_is_registered_where_it_is_asked_for_and_has_tags_to_filter_by(folder: Path) -> None:
    judged = {"rounds": 2, "evaluation__every": 1, "evaluation__extractor": "classifier"}
    client = MlflowClient(f"sqlite:///{folder}/rayfed-runs/mlflow.db")
    first = library.run("run.yaml", local=True, progress=False, rounds=1)
    assert client.search_registered_models() == []
    result = library.run("run.yaml", local=True, progress=False, tracking__register_model=True, **judged)
    [model] = client.search_registered_models()
    assert (model.name, model.aliases) == ("rayfed-gan-fashion-mnist-6k", {"last": 1, "best": 1})
    version = client.get_model_version(model.name, "1")
    value = result.metrics[-1]["fid_classifier"]
    assert float(version.tags["value"]) == value
    assert version.tags["judged_by"].startswith("fid_classifier, ")
    run = client.get_run(version.run_id)
    assert first.run_id not in run.info.run_name
    wanted = {"method": "centralized", "data": "fashion-mnist-6k", "partition": "iid", "network": "dcgan28"}
    assert run.data.tags.items() >= wanted.items()
    sent = [metric.value for metric in client.get_metric_history(version.run_id, "bytes_device_total")]
    assert sent == [sum(row["bytes_device_max"] for row in result.metrics[: n + 1]) for n in range(2)]
