"""The classifier's feature space: useful, reproducible, and trained once."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from rayfed.errors import UserError
from rayfed.evaluation.classifier import ClassifierExtractor
from rayfed.evaluation.fid import frechet_distance, statistics

TRAIN = slice(0, 1200)
TEST = slice(1200, None)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(digits, cache_dir):
    images, labels = digits
    return ClassifierExtractor.train_or_load(images[TRAIN], labels[TRAIN], "digits", cache_dir)


def test_it_classifies_digits_it_has_not_seen(trained, digits):
    images, labels = digits
    with torch.inference_mode():
        scores = trained._network(torch.tensor(images[TEST]))
    assert (scores.argmax(dim=1).numpy() == labels[TEST]).mean() > 0.9
    assert trained.train_accuracy > 0.95


def test_features_order_noise_after_real_images(trained, digits):
    images, _ = digits
    real = statistics(trained.features(images[TRAIN]))
    noise = np.random.default_rng(0).integers(0, 256, images[TEST].shape, np.uint8)
    unseen = frechet_distance(real, statistics(trained.features(images[TEST])))
    halved = frechet_distance(real, statistics(trained.features(images[TEST] // 2)))
    assert unseen < halved < frechet_distance(real, statistics(trained.features(noise)))


def test_second_load_reads_the_first_ones_file(trained, digits, cache_dir):
    images, labels = digits
    before = trained.path.stat().st_mtime_ns
    # other labels: were it trained again, it would be another network
    again = ClassifierExtractor.train_or_load(images[TRAIN], 9 - labels[TRAIN], "digits", cache_dir)
    assert trained.path.stat().st_mtime_ns == before
    assert (again.sha256, again.train_accuracy) == (trained.sha256, trained.train_accuracy)
    np.testing.assert_array_equal(again.features(images[TEST]), trained.features(images[TEST]))


def test_two_trainings_are_equal_and_leave_torch_alone(digits, tmp_path):
    images, labels = digits
    images, labels = images[:300], labels[:300]
    images.flags.writeable = False
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    a = ClassifierExtractor.train_or_load(images, labels, "a", tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    b = ClassifierExtractor.train_or_load(images, labels, "b", tmp_path)
    assert a.path != b.path
    assert a.sha256 == b.sha256
    np.testing.assert_array_equal(a.features(images), b.features(images))


def test_file_holds_the_train_accuracy(trained):
    with safe_open(trained.path, "np") as file:
        assert float(file.metadata()["train_accuracy"]) == trained.train_accuracy


def flip_a_weight(data):
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], flip_a_weight])
def test_corrupt_file_is_trained_again(digits, tmp_path, damage):
    images, labels = (x[:100] for x in digits)
    first = ClassifierExtractor.train_or_load(images, labels, "digits", tmp_path)
    whole = first.path.read_bytes()
    first.path.write_bytes(damage(whole))
    second = ClassifierExtractor.train_or_load(images, labels, "digits", tmp_path)
    assert second.sha256 == first.sha256
    assert list(tmp_path.iterdir()) == [first.path]
    with safe_open(first.path, "np") as file:
        assert file.metadata()["sha256"] == first.sha256


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (3, 64), (1, 30)])
def test_other_shapes(tmp_path, channels, side):
    images = np.random.default_rng(0).integers(0, 256, (20, channels, side, side), np.uint8)
    extractor = ClassifierExtractor.train_or_load(images, np.arange(20) % 3, "noise/any: key", tmp_path)
    features = extractor.features(images)
    assert (features.shape, features.dtype) == ((20, 64), np.float32)
    assert f"{channels}x{side}x{side}" in extractor.path.name


def test_unwritable_cache_is_one_line(digits, tmp_path):
    images, labels = (x[:20] for x in digits)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^[^\n]*cache cannot be written[^\n]*$"):
        ClassifierExtractor.train_or_load(images, labels, "digits", tmp_path / "file")
