"""Which feature spaces are chosen, what is said when one cannot be had, and what is kept."""

import os
import subprocess
import sys

import numpy as np
import pytest

from rayfed.config import Evaluation
from rayfed.errors import UserError
from rayfed.evaluation.evaluator import Evaluator, check
from tests.inception import WEIGHTS, needs_weights


def build(digits, cache_dir, **config):
    images, labels = digits
    splits = images[:100], labels[:100], images[100:110], labels[100:110]
    return Evaluator(Evaluation(**config), *splits, "digits", cache_dir)


def test_auto_without_weights_goes_on_and_says_so(digits, tmp_path, no_weights):
    evaluator = build(digits, tmp_path)
    assert evaluator.metrics == ("fid_classifier",)
    assert check(Evaluation()) == (
        f"no Inception weights in evaluation.weights, RAYFED_FID_WEIGHTS or {no_weights}: "
        "FID goes on in the classifier's feature space alone, as fid_classifier"
    )
    assert set(evaluator.extractors) == {"classifier"}
    assert set(evaluator.evaluate(digits[0][200:250])) == {"fid_classifier"}


def test_classifier_by_name_has_nothing_to_say(digits, tmp_path, no_weights):
    evaluator = build(digits, tmp_path, extractor="classifier", weights="ignored.pth")
    assert evaluator.metrics == ("fid_classifier",)
    assert check(Evaluation(extractor="classifier")) is None


def test_inception_by_name_without_weights_is_refused(tmp_path):
    code = (
        "from rayfed.config import Evaluation; from rayfed.evaluation.evaluator import check\n"
        "for name in ('inception', 'both'):\n"
        "    try: check(Evaluation(extractor=name))\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k != "RAYFED_FID_WEIGHTS"}
    # a proxy at a closed port: the download is refused at once, whatever network there is
    env |= {"TORCH_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    name = "pt_inception-2015-12-05-6726825d.pth"
    assert done.stderr == ""
    refusal = (
        "UserError no Inception weights: evaluation.weights and RAYFED_FID_WEIGHTS are not set, "
        f"{tmp_path}/hub/checkpoints/{name} does not exist, and "
        f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{name} cannot be downloaded "
        "(<urlopen error [Errno 111] Connection refused>)\n"
    )
    assert done.stdout == refusal * 2


@pytest.mark.parametrize("extractor", ["auto", "inception", "both"])
def test_given_weights_must_exist(extractor, tmp_path):
    with pytest.raises(UserError, match=r"evaluation\.weights = .*: no such file"):
        check(Evaluation(extractor=extractor, weights=str(tmp_path / "missing.pth")))


def test_distance_is_zero_to_the_test_split_itself_and_grows_with_damage(digits, tmp_path):
    evaluator = build(digits, tmp_path, extractor="classifier")
    images = digits[0]
    noise = np.random.default_rng(0).integers(0, 256, (50, 1, 32, 32), np.uint8)
    same, real, far = (evaluator.evaluate(x)["fid_classifier"] for x in (images[100:110], images[200:250], noise))
    assert same == pytest.approx(0, abs=1e-6)
    assert same < real < far


def test_second_evaluator_reads_the_firsts_statistics(digits, tmp_path):
    images = digits[0]
    first = build(digits, tmp_path, extractor="classifier").evaluate(images[200:250])
    (path,) = tmp_path.glob("statistics-*.npz")
    before = path.stat().st_mtime_ns
    assert build(digits, tmp_path, extractor="classifier").evaluate(images[200:250]) == first
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:-100])
    assert build(digits, tmp_path, extractor="classifier").evaluate(images[200:250]) == first
    assert len(list(tmp_path.iterdir())) == 3  # the classifier, the statistics, the limits


@pytest.mark.parametrize(
    "images",
    [np.zeros((4, 3, 32, 32), np.uint8), np.zeros((4, 1, 32, 32), np.float32), np.zeros((1, 1, 32, 32), np.uint8)],
)
def test_other_images_are_refused(digits, tmp_path, images):
    with pytest.raises(UserError, match=r"must be uint8 \[N, 1, 32, 32\] with N >= 2"):
        build(digits, tmp_path, extractor="classifier").evaluate(images)


@pytest.mark.slow
@needs_weights
def test_auto_with_weights_gives_both(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYFED_FID_WEIGHTS", WEIGHTS)
    evaluator = build(digits, tmp_path)
    assert evaluator.metrics == ("fid", "fid_classifier")
    assert check(Evaluation()) is None
    assert evaluator.extractors["inception"].startswith(f"{WEIGHTS} sha256:")
    scores = evaluator.evaluate(digits[0][100:110])
    assert scores == pytest.approx({"fid": 0, "fid_classifier": 0}, abs=1e-4)
