"""A task that is no GAN and knows no FID runs, resumes, compares and is tracked by its own metrics and pictures."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

import rayfed as library
from rayfed.data.datasets import load
from rayfed.data.partition import iid
from rayfed.engine.callbacks import Callback
from rayfed.engine.checkpoint import Checkpoint
from rayfed.seeding import SERVER, generator
from tests.plugins.commands import Outcome, assert_same_bits, last_commit, rayfed, script, summary

ROUNDS, DEVICES, LR, BATCH, STEPS, SEED, SIDE, CLASSES = 3, 4, 0.2, 8, 5, 6, 8, 10
TINY: dict[str, Any] = {
    "rounds": ROUNDS,
    "seed": SEED,
    "method": {"name": "toy_classifier:METHOD", "fraction": 0.75, "iterations": STEPS, "batch": BATCH},
    "devices": {"count": DEVICES},
    "data": {"partition": "iid"},
    "model": {"name": "toy_classifier:SOFTMAX", "lr": LR},
    "evaluation": {"every": 1},
    "tracking": {"enabled": False},
    "resources": {"hosts": 1, "device_host": {"num_cpus": 0.5}},
}
VALUES = CLASSES * SIDE**2 + CLASSES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a user works: the task's file and a configuration, side by side."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copy(Path(__file__).with_name("toy_classifier.py"), folder)
    (folder / "toy.yaml").write_text(yaml.safe_dump(TINY))
    yield folder
    del sys.modules["toy_classifier"]


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[str, Outcome]:
    """A run without Ray, in MLflow too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        outcome = rayfed(folder, "run", "toy.yaml", "--local", "tracking.enabled=true")
    assert outcome.code == 0, outcome.err
    return outcome.out.split()[1], outcome


@pytest.fixture(scope="module")
def trained(folder: Path, made: tuple[str, Outcome]) -> torch.nn.Module:
    """The run's network."""
    return library.load(made[0], runs_dir=str(folder / "rayfed-runs")).generator()


def pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255


def test_the_weights_are_those_of_a_plain_program(folder: Path) -> None:
    """One round of FedAvg by hand: the gradient of the cross-entropy is (softmax - one-hot) times the pixels."""
    data = load("fashion-mnist-6k", size=SIDE)
    parts = iid(data.train_labels, DEVICES, generator(SEED, 0, SERVER, "partition"))
    replies = []
    for device, part in enumerate(parts):
        order = generator(SEED, 1, device, "batches").permutation(part)
        weights, bias = np.zeros((CLASSES, SIDE**2)), np.zeros(CLASSES)
        for batch in order[: BATCH * STEPS].reshape(STEPS, BATCH):
            x, y = pixels(data.train_images[batch]), data.train_labels[batch]
            error = (softmax(x @ weights.T + bias, axis=1) - np.eye(CLASSES)[y]) / BATCH
            weights, bias = weights - LR * error.T @ x, bias - LR * error.sum(axis=0)
        replies.append(np.concatenate((weights.ravel(), bias)))
    expected = np.average(replies, axis=0, weights=[len(part) for part in parts])
    run = summary(folder, "run", "toy.yaml", "--local", "rounds=1", "method.fraction=1.0", "evaluation.every=0")
    assert np.abs(expected).max() > 0.01
    commit = last_commit(folder, run["run"])
    np.testing.assert_allclose(commit.arrays["classifier"], expected, atol=1e-6)
    assert commit.metrics["bytes_up"] == DEVICES * 4 * VALUES
    assert commit.metrics["flops_devices"] == DEVICES * STEPS * (2 + 2) * BATCH * CLASSES * SIDE**2  # there and back
    assert commit.metrics["sim_seconds"] > 0


def test_metrics_and_picture_are_those_of_scikit_learn(
    folder: Path, made: tuple[str, Outcome], trained: torch.nn.Module
) -> None:
    data = load("fashion-mnist-6k", size=SIDE)
    with torch.inference_mode():
        scores = trained(torch.from_numpy(data.test_images).float() / 255).numpy()
    found = rayfed(folder, "eval", made[0], "--json").json
    assert found["accuracy"] == pytest.approx(accuracy_score(data.test_labels, scores.argmax(axis=1)))
    assert found["loss"] == pytest.approx(log_loss(data.test_labels, softmax(scores.astype(float), axis=1)), rel=1e-5)
    assert found["accuracy"] > 0.3  # a tenth of the images are of each class
    shares = confusion_matrix(data.test_labels, scores.argmax(axis=1), normalize="true")
    picture = np.asarray(Image.open(folder / "rayfed-runs" / made[0] / f"confusion-{ROUNDS:05d}.png"))
    np.testing.assert_allclose(picture, 255 * shares, atol=0.5)


def test_the_closing_table_tells_of_accuracy_and_of_the_newest_picture(folder: Path, made: tuple[str, Outcome]) -> None:
    run, outcome = made
    history = [metrics for _, metrics, _ in library.load(run, runs_dir=str(folder / "rayfed-runs")).history[1:]]
    accuracies = [metrics["accuracy"] for metrics in history]
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in outcome.out.strip().splitlines())
    assert list(rows) == ["run", "accuracy", "loss", "images/s", "per round", "confusion", "MLflow"]
    figures = dict(each.split() for each in re.split(r"\s{3}", rows["accuracy"]))
    assert figures == {
        "first": f"{accuracies[0]:.3f}",
        "best": f"{max(accuracies):.3f}",
        "last": f"{accuracies[-1]:.3f}",
    }
    assert rows["confusion"] == f"rayfed-runs/{run}/confusion-{ROUNDS:05d}.png"
    assert "samples" not in rows
    assert f"round {ROUNDS}/{ROUNDS}  " in outcome.err
    assert "FID" not in outcome.out + outcome.err
    assert (folder / "rayfed-runs" / run / "run.png").exists()


def test_the_list_shows_the_highest_accuracy_and_the_lowest_loss(folder: Path, made: tuple[str, Outcome]) -> None:
    result = library.load(made[0], runs_dir=str(folder / "rayfed-runs"))
    row = next(row for row in rayfed(folder, "list", "--json").json if row["run"] == made[0])
    assert row["best_accuracy"] == round(max(metrics["accuracy"] for metrics in result.metrics), 3)
    assert row["best_loss"] == round(min(metrics["loss"] for metrics in result.metrics), 3)
    assert len({metrics["accuracy"] for metrics in result.metrics}) > 1
    assert not any("fid" in key for key in row)


def test_mlflow_has_the_network_and_the_picture(
    folder: Path, made: tuple[str, Outcome], trained: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{folder}/rayfed-runs/mlflow.db"
    client = MlflowClient(url)
    [run] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    assert (run.info.run_name, run.info.status) == (f"{made[0]}, seed {SEED}", "FINISHED")
    assert {"evaluation/accuracy", "evaluation/loss", "loss_train", "sim_seconds"} <= run.data.metrics.keys()
    assert run.data.tags["judge"] == "1000 test images"
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert any("confusion" in path for path in images)
    [model] = client.search_logged_models([run.info.experiment_id])
    assert model.name == "classifier"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    given = torch.rand(3, 1, SIDE, SIDE)
    torch.testing.assert_close(mlflow.pytorch.load_model(model.model_uri)(given), trained(given))


def test_a_comparison_follows_the_accuracy_and_takes_the_highest_for_the_best(folder: Path) -> None:
    slow, quick = ({"model": {"name": TINY["model"]["name"], "lr": lr}} for lr in (0.01, LR))
    comparison = {"base": {**TINY, "model": {}}, "runs": {"slow": slow, "quick": quick}, "devices": [4]}
    (folder / "compare.yaml").write_text(yaml.safe_dump(comparison))
    found = summary(folder, "compare", "compare.yaml", "--local")
    assert found["metric"] == {"name": "accuracy", "label": "accuracy", "detail": "", "lower_is_better": False}
    for run in ("slow", "quick"):
        [series] = found["runs"][run]["series"].values()
        figures = {name: values["mean"] for name, values in found["runs"][run]["summary"].items()}
        assert (figures["best"], figures["last"]) == (max(series["accuracy"]), series["accuracy"][-1])
        first = next(k for k, accuracy in enumerate(series["accuracy"]) if accuracy >= found["common"])
        assert figures["sim_seconds_to_common"] == pytest.approx(series["sim_total_seconds"][first])
        assert "loss_g" not in series
        assert all(loss > 0 for loss in series["loss_train"])
    best = {run: found["runs"][run]["summary"]["best"]["mean"] for run in found["runs"]}
    assert found["common"] == min(best.values()) == best["slow"] < best["quick"]
    (folder / "again.yaml").write_text(yaml.safe_dump(comparison | {"runs": {"slow": slow}}))
    printed = rayfed(folder, "compare", "again.yaml", "--local", "rounds=1").out
    assert "accuracy" in printed
    assert "FID" not in printed


class CtrlC(Callback):
    """As it comes while the second round trains."""

    def on_round(self, checkpoint: Checkpoint) -> None:
        if checkpoint.round == 2:
            raise KeyboardInterrupt


def test_a_resumed_run_ends_with_the_weights_and_accuracies_of_the_undisturbed_one(
    folder: Path, made: tuple[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    interrupted = library.run("toy.yaml", local=True, progress=False, callbacks=[CtrlC()])
    assert (interrupted.status, len(interrupted.metrics)) == ("interrupted", 2)
    assert "accuracy" not in interrupted.metrics[-1]
    assert summary(folder, "resume", interrupted.run_id, "--local")["status"] == "finished"
    assert_same_bits(last_commit(folder, interrupted.run_id), last_commit(folder, made[0]))
    one, other = ([row["accuracy"] for row in library.load(run).metrics] for run in (interrupted.run_id, made[0]))
    assert one == other


def test_without_the_file_the_runs_are_listed_and_what_needs_it_says_so(
    folder: Path, made: tuple[str, Outcome], tmp_path: Path
) -> None:
    runs = ["--runs-dir", str(folder / "rayfed-runs")]
    outcome = script(tmp_path, "list", *runs, "--json")
    assert outcome.code == 0, outcome.err
    assert {"run", "state", "method"} <= next(row for row in outcome.json if row["run"] == made[0]).keys()
    cause = "cannot import toy_classifier (ModuleNotFoundError: No module named 'toy_classifier')"
    message = f"method.name = 'toy_classifier:METHOD': {cause}"
    assert script(tmp_path, "eval", made[0], *runs) == Outcome(2, "", f"rayfed: {message}\n")


@pytest.mark.slow
def test_ray_trains_and_judges_as_this_process_does(folder: Path, made: tuple[str, Outcome], tmp_path: Path) -> None:
    for name in ("toy_classifier.py", "toy.yaml"):
        shutil.copy(folder / name, tmp_path)
    outcome = script(tmp_path, "run", "toy.yaml", "--json")
    assert outcome.code == 0, outcome.err
    assert_same_bits(last_commit(tmp_path, outcome.json["run"]), last_commit(folder, made[0]))
    here, there = last_commit(folder, made[0]).metrics, last_commit(tmp_path, outcome.json["run"]).metrics
    assert there["accuracy"] == here["accuracy"]


def test_commands_that_a_classifier_cannot_serve_say_so_in_one_line(folder: Path, made: tuple[str, Outcome]) -> None:
    message = "toy_classifier:METHOD: a classifier draws no images"
    assert rayfed(folder, "sample", made[0]) == Outcome(2, "", f"rayfed: {message}\n")
    message = "model.name = 'lsgan': must be a Softmax, e.g. toy_classifier:SOFTMAX"
    assert rayfed(folder, "run", "toy.yaml", "model.name=lsgan") == Outcome(2, "", f"rayfed: {message}\n")
    comparison = {
        "base": {key: value for key, value in TINY.items() if key not in ("method", "model")},
        "runs": {
            "classifier": {"method": TINY["method"], "model": TINY["model"]},
            "GAN": {"method": TINY["method"] | {"name": "fl-vanilla"}},
        },
    }
    (folder / "unlike.yaml").write_text(yaml.safe_dump(comparison))
    message = "method.name: runs of different tasks do not compare: GAN (gan) and classifier (toy_classifier:TASK)"
    assert rayfed(folder, "compare", "unlike.yaml", "--local") == Outcome(2, "", f"rayfed: {message}\n")


def test_the_network_is_exported_under_its_own_name(
    folder: Path, made: tuple[str, Outcome], trained: torch.nn.Module
) -> None:
    assert rayfed(folder, "export", made[0]) == Outcome(0, "classifier.pt2\n", "")
    given = torch.rand(3, 1, SIDE, SIDE)
    torch.testing.assert_close(torch.export.load(folder / "classifier.pt2").module()(given), trained(given))
