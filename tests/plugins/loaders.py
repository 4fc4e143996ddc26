"""Functions as somebody might write them for `data.name`: one that is right, and each thing that can be wrong."""

from typing import Any

import numpy as np

NUMBER = 7
CLASSES = ("dark", "light")


def good(root: str | None, size: int | None) -> Any:
    """Four dark and two light images to train on, one of each to test on, 6x4, in lists and small integers."""
    train = np.repeat(np.array([10, 10, 200, 10, 10, 200], np.uint8), 24).reshape(6, 1, 6, 4)
    labels = [0, 0, 1, 0, 0, 1]
    return train, labels, train[1:3], np.array(labels[1:3], np.int8), list(CLASSES)


def told(root: str | None, size: int | None) -> Any:
    """Images whose values are what the function was told."""
    train, labels, test, test_labels, classes = good(root, size)
    return np.full_like(train, int(root or 0)), labels, np.full_like(test, size or 0), test_labels, classes


def _with(index: int, value: Any) -> Any:
    found = list(good(None, None))
    found[index] = value
    return tuple(found)


def raises(root: str | None, size: int | None) -> Any:
    return {}["no\nsuch key"]


def takes_nothing() -> Any:
    return good(None, None)


def ends(root: str | None, size: int | None) -> Any:
    raise SystemExit("bye")


def nothing(root: str | None, size: int | None) -> Any:
    return None


def four_values(root: str | None, size: int | None) -> Any:
    return good(root, size)[:4]


def floats(root: str | None, size: int | None) -> Any:
    return _with(0, good(root, size)[0] / np.float32(255))


def ragged(root: str | None, size: int | None) -> Any:
    return _with(2, [[1, 2], [3]])


def flat(root: str | None, size: int | None) -> Any:
    return _with(0, good(root, size)[0].reshape(6, 24))


def channels_last(root: str | None, size: int | None) -> Any:
    return _with(0, good(root, size)[0].reshape(6, 6, 4, 1))


def two_channels(root: str | None, size: int | None) -> Any:
    return _with(2, good(root, size)[2].reshape(2, 2, 6, 2))


def other_size(root: str | None, size: int | None) -> Any:
    return _with(2, good(root, size)[2].reshape(2, 1, 4, 6))


def no_test_images(root: str | None, size: int | None) -> Any:
    return _with(2, good(root, size)[2][:0])


def float_labels(root: str | None, size: int | None) -> Any:
    return _with(1, np.array([0.0, 0, 1, 0, 0, 1]))


def too_few_labels(root: str | None, size: int | None) -> Any:
    return _with(1, [0, 1])


def one_hot_labels(root: str | None, size: int | None) -> Any:
    return _with(3, np.eye(2, dtype=int))


def label_too_large(root: str | None, size: int | None) -> Any:
    return _with(3, [1, 2])


def negative_label(root: str | None, size: int | None) -> Any:
    return _with(1, [0, 0, -1, 0, 0, 1])


def no_classes(root: str | None, size: int | None) -> Any:
    return _with(4, ())


def one_string(root: str | None, size: int | None) -> Any:
    return _with(4, "dark light")


def a_number(root: str | None, size: int | None) -> Any:
    return _with(4, 2)
