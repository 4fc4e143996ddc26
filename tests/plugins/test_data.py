"""Data by a dotted name: what the function gives is the data set, and whatever is wrong with it is told in one line."""

import numpy as np
import pytest

from rayfed.data import datasets
from rayfed.errors import UserError

MODULE = "tests.plugins.loaders"
FIELDS = "(train_images, train_labels, test_images, test_labels, classes)"


def test_the_functions_images_are_the_data_set() -> None:
    data = datasets.load(f"{MODULE}:good")
    assert data.train_images[:, 0, 0, 0].tolist() == [10, 10, 200, 10, 10, 200]
    assert data.test_images[:, 0, 0, 0].tolist() == [10, 200]
    assert (data.train_images.shape, data.test_images.shape) == ((6, 1, 6, 4), (2, 1, 6, 4))
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([0, 0, 1, 0, 0, 1], [0, 1])
    assert data.train_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.classes == ("dark", "light")
    assert data.key == f"tests.plugins.loaders-good-{data.sha256[:16]}"


def test_the_function_is_told_root_and_size() -> None:
    data = datasets.load(f"{MODULE}:told", root="5", size=12)
    assert data.train_images.shape == (6, 1, 12, 12)
    assert (data.train_images == 5).all()
    assert (data.test_images == 12).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("NUMBER", "is not callable (int); it must be a function of (root, size)"),
        ("raises", "raises(None, 28) raises KeyError: 'no\\nsuch key'"),
        (
            "takes_nothing",
            "takes_nothing(None, 28) raises TypeError: takes_nothing() takes 0 positional arguments but 2 were given",
        ),
        ("ends", "ends(None, 28) raises SystemExit: bye"),
        ("nothing", f"returns a NoneType; it must return {FIELDS}"),
        ("four_values", f"returns 4 values; it must return {FIELDS}"),
        ("floats", "train_images are float32; they must be uint8, from 0 to 255"),
        ("flat", "train_images have the shape [6, 24]; it must be [N, C, H, W]"),
        (
            "channels_last",
            "train_images have the shape [6, 6, 4, 1]; C in [N, C, H, W] must be 1 or 3; the channels come before "
            "height and width",
        ),
        ("two_channels", "test_images have the shape [2, 2, 6, 2]; C in [N, C, H, W] must be 1 or 3"),
        (
            "other_size",
            "train_images are [1, 6, 4] each and test_images [1, 4, 6]; both must have the same [C, H, W]",
        ),
        ("no_test_images", "test_images have the shape [0, 1, 6, 4]; there must be an image at least"),
        ("float_labels", "train_labels are float64; they must be integers, indices into classes"),
        ("too_few_labels", "train_labels have the shape [2]; train_images need [6]"),
        ("one_hot_labels", "test_labels have the shape [2, 2]; test_images need [2]"),
        ("label_too_large", "test_labels have a 2; with 2 classes they must be 0 to 1"),
        ("negative_label", "train_labels have a -1; with 2 classes they must be 0 to 1"),
        ("no_classes", "classes is (); it must be the classes' names, as in ('cat', 'dog')"),
        ("one_string", "classes is 'dark light'; it must be the classes' names, as in ('cat', 'dog')"),
        ("a_number", "classes is 2; it must be the classes' names, as in ('cat', 'dog')"),
    ],
)
def test_what_is_not_a_data_set_is_refused_in_one_line(function: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        datasets.load(f"{MODULE}:{function}", size=28)
    assert str(caught.value) == f"data.name = '{MODULE}:{function}': {message}"


def test_what_is_no_array_is_refused_with_numpys_reason() -> None:
    with pytest.raises(UserError, match=r"test_images are no array \(ValueError: .*inhomogeneous") as caught:
        datasets.load(f"{MODULE}:ragged", size=28)
    assert "\n" not in str(caught.value)


def test_the_list_of_data_sets_says_that_a_function_will_do() -> None:
    assert dict(datasets.describe())["package.module:FUNCTION"].startswith("your own: a function of (root, size)")
