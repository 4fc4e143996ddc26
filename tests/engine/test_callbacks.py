"""What MLflow hears of a run's rounds and evaluations, in a real MLflow."""

from pathlib import Path

import PIL.Image
import pytest
from mlflow import MlflowClient

from rayfed.config import Tracking
from rayfed.config.reading import parse
from rayfed.engine.callbacks import TrackingCallback
from rayfed.tasks.base import EvaluationResult, Metric
from rayfed.tracking import Tracker

METRICS = (Metric("fid", "FID", "Inception's features"), Metric("speed", "speed", lower_is_better=False))


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_what_a_run_is_judged_by_is_a_section_and_heads_its_page(uri, tmp_path):
    tracker = Tracker(Tracking(), uri, str(tmp_path / "artifacts"), "r", {}, {})
    callback = TrackingCallback(tracker, METRICS)
    history = [(1, {"loss_g": 2.0, "fid": 31.25, "seen_class/0": 5, "seen_per_class": 5.5, "bytes_device_max": 7})]
    callback.on_begin(parse({"rounds": 4, "method": {"name": "fegan"}}), history)
    PIL.Image.new("RGB", (800, 400), (0, 90, 0)).save(tmp_path / "samples.png")
    pictures = {"samples": tmp_path / "samples.png"}
    client = MlflowClient(uri)
    callback.on_evaluation(EvaluationResult(0, {}, {}), pictures)
    callback.on_evaluation(EvaluationResult(1, {"fid": 31.25, "speed": 7.0}, {}), pictures)
    assert tracker.close("FINISHED") is None

    run = client.get_run(tracker.run_id)
    judged = {"evaluation/fid": 31.25, "evaluation/speed": 7.0}
    of_the_round = {"loss_g": 2.0, "seen_per_class": 5.5, "bytes_device_max": 7, "bytes_device_total": 7}
    assert run.data.metrics == of_the_round | judged
    assert run.data.tags["mlflow.note.content"] == (
        "Round 1: **FID 31.2** (Inception's features), **speed 7**\n\n"
        "`fegan` on `fashion-mnist-6k`, partition `fegan`, 10 devices, network `lsgan`, 4 rounds, seed 0\n\n"
        f"![samples](get-artifact?path=samples.png&run_uuid={tracker.run_id})"
    )
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    for step in (0, 1):
        assert len(list((folder / "images").glob(f"evaluation?samples?step?{step}?*.png"))) == 1
    with PIL.Image.open(folder / "samples.png") as newest:
        assert (newest.size, newest.getpixel((9, 9))) == ((640, 320), (0, 90, 0))


def test_an_evaluation_without_metrics_is_no_reason_to_complain(uri, tmp_path):
    tracker = Tracker(Tracking(), uri, str(tmp_path / "artifacts"), "r", {}, {})
    callback = TrackingCallback(tracker, METRICS)
    callback.on_begin(parse({"method": {"name": "fegan"}}), [])
    callback.on_evaluation(EvaluationResult(0, {}, {}), {})
    assert tracker.close("FINISHED") is None
    run = MlflowClient(uri).get_run(tracker.run_id)
    assert run.data.metrics == {}
    assert run.data.tags["mlflow.note.content"].startswith("Round 0: not judged\n\n")
