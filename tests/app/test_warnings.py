"""A metric that says nothing is marked: on the terminal once a run, by `rayfed eval` too, and in MLflow's tags."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from tests.test_cli import TINY, Outcome, rayfed

pytestmark = pytest.mark.usefixtures("cache")

SAYS_LITTLE = (
    "fid_classifier says little: the classifier of the data's classes is right on {}% of the test images, chance is "
    "50%; judge by fid (evaluation.extractor=inception)\n"
)


def begin(folder: Path, **more: Any) -> Outcome:
    (folder / "run.yaml").write_text(yaml.safe_dump(TINY | more))
    outcome = rayfed(folder, "run", "run.yaml", "--local", "--json")
    assert outcome.code == 0, outcome.err
    return outcome


def noise(folder: Path) -> str:
    """An image folder of random pixels in two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("a", "b"):
            place = folder / "noise" / split / name
            place.mkdir(parents=True)
            for k, pixels in enumerate(rng.integers(0, 256, (100, 28, 28), np.uint8)):
                Image.fromarray(pixels).save(place / f"{k}.png")
    return f"imagefolder:{folder}/noise"


def test_noise_in_two_classes_is_marked_once_a_run(tmp_path):
    """Two evaluations judge it."""
    outcome = begin(tmp_path, data={"name": noise(tmp_path), "partition": "iid"})
    [line] = [line for line in outcome.err.splitlines(keepends=True) if "fid_classifier" in line]
    guessed = line.removeprefix(SAYS_LITTLE.partition("{}")[0]).partition("%")[0]
    assert line == SAYS_LITTLE.format(guessed)
    assert 35 <= int(guessed) <= 62
    assert outcome.json["fid_classifier"]["last"] > 0
    evaluated = rayfed(tmp_path, "eval", outcome.json["run"], "--json")
    assert (evaluated.code, evaluated.err) == (0, line)
    assert evaluated.json == {"run": outcome.json["run"], "round": 2} | {
        "fid_classifier": outcome.json["fid_classifier"]["last"]
    }


def test_the_shipped_data_is_not_marked_and_its_limits_are_in_mlflow(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    outcome = begin(tmp_path, tracking={"enabled": True})
    assert "says little" not in outcome.err
    assert rayfed(tmp_path, "eval", outcome.json["run"], "--json").err == ""
    client = MlflowClient(f"sqlite:///{tmp_path}/rayfed-runs/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    tags = run.data.tags
    assert tags["classifier.chance"] == "0.1"  # a tenth of the images are of each class
    assert 0.8 < float(tags["classifier.accuracy"]) < 0.9
    assert 3 < float(tags["classifier.dimensions"]) < 6
    assert 10 < float(tags["fid_classifier.floor"]) < 40  # of 64 images
    drawn = {Path(file.path).name.split("+")[2] for file in client.list_artifacts(run.info.run_id, "images")}
    assert drawn == {"0", "1", "2"}
