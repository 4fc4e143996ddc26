"""Inception's features against pytorch-fid's own command line; finding the weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid.inception import FID_WEIGHTS_URL

from rayfed.errors import UserError
from rayfed.evaluation.fid import frechet_distance, statistics
from rayfed.evaluation.inception import InceptionExtractor
from rayfed.evaluation.weights import FILE, find_weights
from tests.inception import WEIGHTS, needs_weights


@pytest.fixture(scope="module")
def extractor():
    return InceptionExtractor(WEIGHTS)


@pytest.fixture(scope="module")
def rgb(patches):
    return patches[:12]


@pytest.fixture(scope="module")
def gray(patches):
    return patches[12:, :1]


def save(images, folder):
    """As PNGs: RGB, or grayscale where there is one channel."""
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(folder / f"{i}.png")
    return str(folder)


def pytorch_fid(a, b, home):
    """The FID that pytorch-fid's command line prints for two sets of images."""
    (home / "hub/checkpoints").mkdir(parents=True)
    (home / "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth").symlink_to(Path(WEIGHTS).absolute())
    folders = save(a, home / "a"), save(b, home / "b")
    options = ["--device", "cpu", "--batch-size", "50", "--num-workers", "0"]
    # one thread: scipy's square root of 2048 x 2048 is several times slower on two busy cores
    env = os.environ | {"TORCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    args = [sys.executable, "-m", "pytorch_fid", *folders, *options]
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("FID:")[1])


@pytest.fixture(scope="module")
def real(extractor, rgb, gray):
    """Statistics of both sets and the distance between them."""
    a, b = (statistics(extractor.features(images)) for images in (rgb, gray))
    return a, b, frechet_distance(a, b)


@pytest.mark.slow
@needs_weights
def test_fid_of_rgb_and_grayscale_is_pytorch_fids(real, rgb, gray, tmp_path):
    assert real[2] == pytest.approx(pytorch_fid(rgb, gray, tmp_path), rel=1e-3)


@pytest.mark.slow
@needs_weights
def test_noise_is_further_than_other_real_images(extractor, real):
    noise = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8)
    assert real[2] < frechet_distance(real[0], statistics(extractor.features(noise)))


@needs_weights
@pytest.mark.filterwarnings("error")
def test_building_says_nothing_and_draws_no_random_number(capfd):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert str(InceptionExtractor(WEIGHTS).path) == WEIGHTS
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def test_weights_are_looked_for_in_order(no_weights, tmp_path, monkeypatch):
    assert find_weights(None) is None
    no_weights.parent.mkdir(parents=True)
    for path in (no_weights, tmp_path / "env.pth", tmp_path / "config.pth"):
        path.touch()
    assert find_weights(None) == no_weights
    monkeypatch.setenv("RAYFED_FID_WEIGHTS", str(tmp_path / "env.pth"))
    assert find_weights(None) == tmp_path / "env.pth"
    assert find_weights(str(tmp_path / "config.pth")) == tmp_path / "config.pth"


@pytest.mark.parametrize("setting", ["evaluation.weights", "RAYFED_FID_WEIGHTS"])
def test_missing_file_is_named_with_its_setting(no_weights, tmp_path, monkeypatch, setting):
    missing = str(tmp_path / "missing.pth")
    if setting == "RAYFED_FID_WEIGHTS":
        monkeypatch.setenv(setting, missing)
    with pytest.raises(UserError) as error:
        InceptionExtractor(missing if setting == "evaluation.weights" else None)
    assert str(error.value) == (
        f"{setting} = {missing}: no such file; it must be pytorch-fid's pt_inception-2015-12-05-6726825d.pth"
    )


def write_garbage(path: Path):
    path.write_bytes(b"not a checkpoint")


def write_other_weights(path: Path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)


def write_a_tensor(path: Path):
    torch.save(torch.zeros(2), path)


@pytest.mark.parametrize("content", [Path.touch, write_garbage, write_other_weights, write_a_tensor])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "weights.pth"
    content(path)
    with pytest.raises(UserError, match=r"^[^\n]*weights\.pth: not the Inception weights of pytorch-fid[^\n]*$"):
        InceptionExtractor(str(path))


def test_the_file_has_the_name_of_pytorch_fids_download():
    assert FID_WEIGHTS_URL.endswith(f"/{FILE}")
