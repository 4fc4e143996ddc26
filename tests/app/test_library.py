"""rayfed as a library, in this process: what a script or a notebook gets back."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import rayfed
from rayfed.app.result import Result
from rayfed.config import load as load_config
from rayfed.engine.callbacks import Callback
from rayfed.errors import UserError
from rayfed.models.networks import architecture
from rayfed.store import Store
from tests.test_cli import TINY

pytestmark = pytest.mark.usefixtures("cache")


@dataclass
class Ear(Callback):
    """What it hears, beside the rounds that another connection finds in the store at that moment."""

    url: str
    heard: list[tuple[str, int, int | None]] = field(default_factory=list)

    def hear(self, what: str, round: int) -> None:
        store = Store(self.url)
        try:
            [record] = store.runs()
            self.heard.append((what, round, record.rounds))
            if what == "evaluation":
                assert ("fid_classifier" in store.history(record.id)[round][1]) == (round > 0)
        finally:
            store.close()

    def on_start(self, checkpoint: Any) -> None:
        self.hear("start", checkpoint.round)

    def on_round(self, checkpoint: Any) -> None:
        assert checkpoint.metrics["images_per_s"] > 0
        self.hear("round", checkpoint.round)

    def on_evaluation(self, result: Any, pictures: Any) -> None:
        assert all(path.exists() for path in pictures.values())
        self.hear("evaluation", result.round)


@dataclass(frozen=True)
class Made:
    """What `rayfed.run` gave, and where and how."""

    result: Result
    folder: Path
    heard: list[tuple[str, int, int | None]]
    said: tuple[str, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Made:
    """A run from a YAML file of which two keys are overridden."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"rounds": 5, "runs_dir": str(folder / "runs")}))
    ear = Ear(f"sqlite:///{folder}/runs/rayfed.db")
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        result = rayfed.run(
            folder / "tiny.yaml", rounds=2, method__batch=6, local=True, progress=False, callbacks=[ear]
        )
    return Made(result, folder, ear.heard, (out.getvalue(), err.getvalue()))


def again(made: Made) -> Result:
    """The same run from its folder."""
    return rayfed.load(made.result.run_id, runs_dir=str(made.folder / "runs"))


@pytest.fixture(params=["run", "load"])
def result(made: Made, request: pytest.FixtureRequest) -> Result:
    return made.result if request.param == "run" else again(made)


def test_a_run_without_progress_is_silent(made):
    assert made.said == ("", "")


def test_overrides_are_keywords(made):
    config = made.result.config
    assert (config.rounds, config.method.batch, config.method.iterations) == (2, 6, 1)
    assert made.result.metrics[0]["images"] == 2 * 6  # two devices, one batch of 6


def test_callbacks_hear_every_round_and_evaluation_once_it_is_committed(made):
    assert made.heard == [
        ("start", 0, 0),
        ("evaluation", 0, 0),
        ("round", 1, 1),
        ("evaluation", 1, 1),
        ("round", 2, 2),
        ("evaluation", 2, 2),
    ]


def test_a_result_says_how_the_run_ended(result, made):
    assert result.run_id.startswith("fegan-")
    assert (result.status, result.mlflow, result.resume) == ("finished", None, None)
    assert result.folder == made.folder / "runs" / made.result.run_id
    assert result.summary()["fid_classifier"]["last"] == result.metrics[-1]["fid_classifier"]


def test_metrics_are_a_row_per_round(result):
    assert [row["round"] for row in result.metrics] == [1, 2]
    for row in result.metrics:
        assert {"images_per_s", "loss_g", "loss_d", "bytes_up", "sim_seconds", "fid_classifier"} <= row.keys()
        assert row["bytes_up"] == 2 * 360_288  # two devices, 90,072 float32 values


def test_what_was_loaded_is_what_was_run(made):
    loaded = again(made)
    assert loaded.metrics == made.result.metrics
    assert loaded.history == made.result.history
    assert loaded.pictures == made.result.pictures
    assert loaded.summary() == made.result.summary()


def test_a_dataframe_has_the_metrics_by_round(result):
    table = result.dataframe()
    assert table.index.name == "round"
    assert table.index.tolist() == [1, 2]
    for row in result.metrics:
        assert {name: table.loc[row["round"], name] for name in table} == {
            name: value for name, value in row.items() if name != "round"
        }


def test_pictures_are_files_that_can_be_opened(result):
    grids = [f"samples-0000{round}.png" for round in (0, 1, 2)]
    names = ["partition.png", "run.png", *grids, "seen_class.png"]
    assert [path.name for path in result.pictures] == names
    for path in result.pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 200


def by_hand(result: Result) -> nn.Module:
    """dcgan28's generator with the store's vector, cut tensor by tensor."""
    network, _ = architecture("dcgan28").build(1, 4, 0)
    store = Store(result.store)
    vector = torch.from_numpy(store.latest(result.run_id).arrays["generator"])
    store.close()
    state, start = {}, 0
    for name, tensor in network.state_dict().items():
        state[name] = vector[start : start + tensor.numel()].view(tensor.shape).to(tensor.dtype)
        start += tensor.numel()
    assert start == len(vector)
    network.load_state_dict(state)
    return network.eval()


def test_the_generator_is_the_last_commits(result):
    generator, z = result.generator(), torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    assert not generator.training
    with torch.no_grad():
        found, expected = generator(z), by_hand(result)(z)
    assert found.shape == (5, 1, 28, 28)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert len({image.numpy().tobytes() for image in found}) == 5


@pytest.mark.parametrize("count", [1, 5])
def test_samples_are_the_generators_images(result, count):
    """In bytes: -1 is 0 and 1 is 255; noise is the seed's."""
    images = result.samples(count, seed=3)
    assert (images.shape, images.dtype) == ((count, 1, 28, 28), np.uint8)
    z = torch.randn(count, 100, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = ((by_hand(result)(z) + 1) * 127.5).numpy()
    assert np.abs(images - expected).max() <= 0.51
    assert (result.samples(count, seed=3) == images).all()
    assert (result.samples(count, seed=4) != images).any()


def test_a_finished_run_goes_on_with_more_rounds(made):
    """As a result of its own: that of the first two rounds stays as it was."""
    result, folder = made.result, str(made.folder / "longer")
    config = result.config.model_copy(update={"runs_dir": folder})
    first = rayfed.run(config, local=True, progress=False)
    assert first.config == config
    longer = rayfed.resume(first.run_id, ["rounds=3"], runs_dir=folder, local=True, progress=False)
    assert (longer.run_id, longer.status, longer.config.rounds) == (first.run_id, "finished", 3)
    assert longer.metrics[:2] == first.metrics
    assert [row["round"] for row in longer.metrics] == [1, 2, 3]
    assert "samples-00003.png" in [path.name for path in longer.pictures]
    assert len(first.metrics) == 2


def test_a_configuration_can_be_an_object_with_overrides(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"runs_dir": str(tmp_path)}))
    result = rayfed.run(load_config(tmp_path / "tiny.yaml"), local=True, progress=False, rounds=1, evaluation__every=0)
    assert (result.config.rounds, result.config.evaluation.every, len(result.metrics)) == (1, 0, 1)
    assert "fid_classifier" not in result.metrics[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"method__fration": 1}, "method.fration = 1: unknown key; did you mean method.fraction?"),
        ({"rounds": 0}, "rounds = 0: must be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_a_user_error(made, overrides, message):
    with pytest.raises(UserError) as caught:
        rayfed.run(made.folder / "tiny.yaml", local=True, progress=False, **overrides)
    assert str(caught.value) == message


def test_a_run_that_there_is_not_is_a_user_error(made, tmp_path):
    with pytest.raises(UserError, match=r"^no run 'nope' in sqlite:.*; `rayfed list` shows the runs"):
        rayfed.load("nope", runs_dir=str(made.folder / "runs"))
    with pytest.raises(UserError, match=r"^no runs in .*; name their folder with --runs-dir"):
        rayfed.load("nope", runs_dir=str(tmp_path))


def test_importing_the_library_imports_neither_torch_nor_ray_nor_mlflow():
    code = "import sys, rayfed; rayfed.run; assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
