"""The samples seen of each class, from a history made by hand."""

import csv

import numpy as np
import pytest
from PIL import Image

from rayfed.report.seen import seen_csv, seen_figure, seen_of
from tests.report.test_pictures import BLUE, ORANGE, count_near, pixels

HISTORY = [
    (0, {}),
    (1, {"loss_g": 2.5, "seen_class/0": 3, "seen_class/1": 0}),
    (2, {"seen_class/0": 3.0, "seen_class/1": 7.0, "seen_per_class": 5.0}),
]
SEEN = {1: [3, 0], 2: [3, 7]}


def test_rounds_that_have_seen_nothing_are_left_out():
    assert seen_of(HISTORY) == SEEN
    assert seen_of([(0, {}), (1, {"loss_g": 1.0})]) == {}


def test_classes_are_in_the_order_of_their_numbers_whatever_that_of_the_history():
    """As text 10 comes before 2."""
    metrics = dict(sorted({f"seen_class/{label}": 100.0 * label for label in range(12)}.items()))
    assert seen_of([(1, metrics)]) == {1: [100 * label for label in range(12)]}


def test_the_table_has_a_column_per_class_by_its_name(tmp_path):
    path = seen_csv(SEEN, ("T-shirt/top", 'a "bag", red'), tmp_path / "seen_class.csv")
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["round", "T-shirt/top", 'a "bag", red'], ["1", "3", "0"], ["2", "3", "7"]]


def test_the_picture_has_a_line_per_class(tmp_path):
    """The first class stays at three of seven samples, the second climbs from the bottom to the top."""
    drawn = pixels(seen_figure(SEEN, ("level", "rising"), tmp_path / "seen_class.png"))
    plot = drawn[:, : int(0.8 * drawn.shape[1])]  # without the legend
    blue, orange = (np.argwhere((np.abs(plot - color) <= 12).all(axis=2)) for color in (BLUE, ORANGE))
    assert np.ptp(blue[:, 0]) < 5
    assert np.ptp(blue[:, 1]) > 0.6 * plot.shape[1]
    assert np.ptp(orange[:, 0]) > 0.6 * plot.shape[0]
    assert np.corrcoef(orange[:, 0], orange[:, 1])[0, 1] < -0.99  # upwards


@pytest.mark.parametrize(("classes", "named"), [(20, True), (21, False)])
def test_many_classes_have_no_legend(tmp_path, classes, named):
    """Of classes that nobody saw all lines lie on the axis: blue higher up is the legend's."""
    names = [f"class {label}" for label in range(classes)]
    drawn = pixels(seen_figure({1: [0] * classes, 2: [0] * classes}, names, tmp_path / "seen_class.png"))
    assert (count_near(drawn[: drawn.shape[0] // 2], BLUE) > 20) == named


def test_a_single_round_is_a_point(tmp_path):
    with Image.open(seen_figure({1: [3, 4]}, ("a", "b"), tmp_path / "seen_class.png")) as picture:
        plot = np.asarray(picture.convert("RGB")).astype(int)[:, : int(0.8 * picture.width)]
    assert count_near(plot, BLUE) > 20
