"""What the classifier's FID can tell on a data set: by hand, on data that says nothing, and on the shipped data."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from rayfed.config import Evaluation
from rayfed.data.datasets import load
from rayfed.evaluation.evaluator import Evaluator
from rayfed.evaluation.limits import Limits, effective_dimension

INSTEAD = "judge by fid (evaluation.extractor=inception)"


def limits(accuracy=0.9, chance=0.5, dimensions=5.0, floor=2.5):
    return Limits(accuracy, chance, dimensions, floor)


@pytest.mark.parametrize(
    ("found", "figure", "why"),
    [
        (
            limits(accuracy=0.51),
            900.0,
            "the classifier of the data's classes is right on 51% of the test images, chance is 50%",
        ),
        (
            limits(accuracy=0.3, chance=0.1),  # a quarter of the way to 1 is 0.325
            900.0,
            "the classifier of the data's classes is right on 30% of the test images, chance is 10%",
        ),
        (
            limits(accuracy=1.0, chance=1.0),  # one class: there is nothing to learn
            900.0,
            "the classifier of the data's classes is right on 100% of the test images, chance is 100%",
        ),
        (
            limits(dimensions=1.04),
            900.0,
            "real images differ along 1.0 effective dimensions of the classifier's features",
        ),
        (limits(), 4.99, "it is below 2 times its floor of 2.5, which is what training images get"),
    ],
)
def test_what_says_little_is_one_line_with_the_reason(found, figure, why):
    assert found.warnings(figure) == (f"fid_classifier says little: {why}; {INSTEAD}",)


@pytest.mark.parametrize(
    "found", [limits(), limits(accuracy=0.63), limits(accuracy=0.33, chance=0.1), limits(dimensions=1.5)]
)
def test_at_twice_the_floor_or_more_nothing_is_said(found):
    assert found.warnings(5.0) == ()


def test_the_first_reason_is_told_alone():
    [warning] = limits(accuracy=0.5, dimensions=1.0).warnings(0.0)
    assert "chance is 50%" in warning


@pytest.mark.parametrize(
    ("variances", "dimension"),
    [([7, 0, 0], 1), ([2, 2, 0], 2), ([3, 1, 0], 16 / 10), ([1, 1, 1], 3), ([0, 0, 0], 0)],
)
def test_effective_dimension_by_hand(variances, dimension):
    """(sum v)^2 / sum v^2, whatever the axes."""
    axes, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    assert effective_dimension(axes @ np.diag(variances) @ axes.T) == pytest.approx(dimension)


def evaluator(data, cache_dir, **config):
    train_images, train_labels, test_images, test_labels = data
    config = Evaluation(**({"extractor": "classifier"} | config))
    return Evaluator(config, train_images, train_labels, test_images, test_labels, "data", cache_dir)


def split(images, labels, test):
    return images[test:], labels[test:], images[:test], labels[:test]


def two_classes(first, second, count=300):
    """Images of random pixels in [low, high) in two classes, in turn."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(*span, (count, 1, 28, 28), np.uint8) for span in (first, second)]
    return split(np.stack(drawn, axis=1).reshape(-1, 1, 28, 28), np.arange(2 * count) % 2, test=100)


def test_limits_are_those_of_scikit_learns_digits(digits, tmp_path):
    """Of all training images, so that it does not matter which are drawn."""
    data = split(*(x[:400] for x in digits), test=100)
    found = evaluator(data, tmp_path)
    classifier = found._real[0][0]
    with torch.inference_mode():
        scores = classifier._network(torch.tensor(data[2]))
    assert found.limits.accuracy == accuracy_score(data[3], scores.argmax(dim=1)) > 0.8
    assert found.limits.chance == max(np.count_nonzero(data[3] == k) for k in range(10)) / 100
    train, test = (classifier.features(images).astype(float) for images in (data[0], data[2]))
    a, b = np.cov(train, rowvar=False), np.cov(test, rowvar=False)
    overlap = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()  # the trace of the square root
    distance = np.square(train.mean(axis=0) - test.mean(axis=0)).sum() + np.trace(a + b) - 2 * overlap
    assert found.limits.floor == pytest.approx(distance, rel=1e-4)
    values = np.linalg.eigvalsh(b)
    assert found.limits.dimensions == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert found.limits.about() == {
        "classifier.accuracy": f"{found.limits.accuracy:.4g}",
        "classifier.chance": f"{found.limits.chance:.4g}",
        "classifier.dimensions": f"{found.limits.dimensions:.4g}",
        "fid_classifier.floor": f"{found.limits.floor:.4g}",
    }


def test_the_floor_is_of_as_many_images_as_are_generated(digits, tmp_path):
    """Fewer images are farther from the test split; each number of them has a file of its own."""
    data = split(*(x[:400] for x in digits), test=100)
    floors = [evaluator(data, tmp_path, samples=samples).limits.floor for samples in (20, 100, 300, 10_000)]
    assert floors[0] > floors[1] > floors[2] == floors[3]
    assert len(list(tmp_path.glob("limits-*"))) == 3


def test_a_single_training_image_has_a_floor(digits, tmp_path):
    """Its distance is that of a point: |m - x|^2 + Tr(C)."""
    images, _ = digits
    found = evaluator((images[:1], np.zeros(1, int), images[1:9], np.zeros(8, int)), tmp_path)
    classifier = found._real[0][0]
    point, test = (classifier.features(x).astype(float) for x in (images[:1], images[1:9]))
    expected = np.square(test.mean(axis=0) - point[0]).sum() + test.var(axis=0, ddof=1).sum()
    assert found.limits.floor == pytest.approx(expected)


def test_limits_are_measured_once(digits, tmp_path):
    data = split(*(x[:200] for x in digits), test=100)
    first = evaluator(data, tmp_path).limits
    [path] = tmp_path.glob("limits-*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"floor": 1234.5}))
    assert evaluator(data, tmp_path).limits == Limits(first.accuracy, first.chance, first.dimensions, 1234.5)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"floor": 1.0}'])
def test_limits_that_are_not_whole_are_measured_again(digits, tmp_path, text):
    data = split(*(x[:200] for x in digits), test=100)
    first = evaluator(data, tmp_path).limits
    [path] = tmp_path.glob("limits-*.json")
    path.write_text(text)
    assert evaluator(data, tmp_path).limits == first
    assert json.loads(path.read_text())["floor"] == first.floor


def test_a_cache_without_limits_keeps_its_classifier(digits, tmp_path):
    """That of a rayfed that did not measure them."""
    data = split(*(x[:200] for x in digits), test=100)
    first = evaluator(data, tmp_path).limits
    [path] = tmp_path.glob("limits-*.json")
    path.unlink()
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(before) == 2
    assert evaluator(data, tmp_path).limits == first
    assert before.items() <= {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}.items()


def test_noise_in_two_classes_is_near_chance(tmp_path):
    found = evaluator(two_classes((0, 256), (0, 256)), tmp_path)
    assert "chance is 50%" in found.limits.warnings(900.0)[0]


def test_two_classes_that_are_easily_told_apart_leave_one_dimension(tmp_path):
    found = evaluator(two_classes((0, 128), (128, 256)), tmp_path).limits
    assert found.accuracy == 1
    assert found.warnings(900.0) == (
        "fid_classifier says little: real images differ along 1.0 effective dimensions of the classifier's features; "
        + INSTEAD,
    )


@pytest.mark.parametrize("samples", [1000, 10_000])
def test_the_shipped_data_says_enough_from_the_first_figure_to_the_best(tmp_path_factory, samples):
    """A run of the demo goes from about 800 to 36."""
    data = load("fashion-mnist-6k", size=32)
    splits = data.train_images, data.train_labels, data.test_images, data.test_labels
    found = evaluator(splits, tmp_path_factory.getbasetemp() / "shipped", samples=samples).limits
    assert found.chance == 0.1
    assert (found.warnings(800.0), found.warnings(36.0)) == ((), ())
