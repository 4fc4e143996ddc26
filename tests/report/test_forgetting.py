"""The accuracy of each class at each evaluation, from a history made by hand."""

from pathlib import Path

import matplotlib
import numpy as np

from rayfed.report.forgetting import forgetting_figure, known_of
from tests.report.test_pictures import pixels

HISTORY = [
    (0, {}),
    (1, {"accuracy": 0.5, "accuracy_class_0": 1.0, "accuracy_class_1": 0.0}),
    (2, {"loss_train": 0.1}),
    (3, {"accuracy": 0.5, "accuracy_class_1": 1.0, "accuracy_class_0": 0.0}),
]


def test_rounds_that_were_not_judged_are_left_out() -> None:
    assert known_of(HISTORY) == {1: {0: 1.0, 1: 0.0}, 3: {0: 0.0, 1: 1.0}}
    assert known_of([(1, {"fid": 3.0})]) == {}


def test_what_is_known_is_bright_and_what_is_forgotten_dark(tmp_path: Path) -> None:
    """Two classes that take turns: bright and dark in a chequer."""
    drawn = pixels(forgetting_figure(known_of(HISTORY), ("shirt", "bag"), tmp_path / "forgetting.png"))
    bright, dark = (np.array(matplotlib.colormaps["viridis"](end)[:3]) * 255 for end in (1.0, 0.0))
    plot = drawn[:, : int(0.75 * drawn.shape[1])].astype(float)  # without the colour bar
    rows, columns = {}, {}
    for name, colour in (("bright", bright), ("dark", dark)):
        found = np.argwhere((np.abs(plot - colour) < 12).all(axis=2))
        middle = (found.min(axis=0) + found.max(axis=0)) / 2
        upper = found[found[:, 0] < middle[0], 1].mean()
        lower = found[found[:, 0] >= middle[0], 1].mean()
        rows[name], columns[name] = upper < middle[1], lower > middle[1]
    assert (rows, columns) == ({"bright": True, "dark": False}, {"bright": True, "dark": False})
