import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rayfed.evaluation.grid import grid as grid_of
from rayfed.report.pictures import partition_heatmap, run_figure, sample_grid, sampling_figure, save_picture
from rayfed.tasks.base import Metric
from rayfed.tasks.gan import GanTask

METRICS = GanTask.metrics


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count_near(picture, color, tolerance=12):
    """Pixels whose three channels are all near a colour."""
    return int((np.abs(picture - np.array(color)) <= tolerance).all(axis=2).sum())


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # the first two of matplotlib's default cycle


def test_a_grid_shows_each_image_enlarged_in_its_place(tmp_path):
    images = np.zeros((5, 1, 2, 3), np.uint8)
    images[:, 0, :, 0] = np.arange(10, 60, 10)[:, None]  # left columns: 10, 20, 30, 40, 50
    images[4, 0, 1, 2] = 255
    assert save_picture(grid_of(images, min_side=8), tmp_path / "grid.png") == tmp_path / "grid.png"
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * 8 + 3 * 2, 3 * 12 + 4 * 2)  # 2 rows of 3, scale 4, separators of 2 pixels
    left = [2, 16, 30]
    assert [grid[2, x] for x in left] == [10, 20, 30]
    assert [grid[12, x] for x in left[:2]] == [40, 50]
    assert (grid[16:20, 24:28] == 255).all()
    assert (grid == 255).sum() == 16
    separator = {int(grid[0, 0]), int(grid[11, 5]), int(grid[5, 15]), int(grid[15, 35])}
    assert separator == {96}


def test_a_grid_keeps_colours(tmp_path):
    images = np.zeros((1, 3, 64, 64), np.uint8)
    images[0, 0, :, 32:] = 200
    images[0, 2] = 7
    save_picture(grid_of(images, min_side=56), tmp_path / "grid.png")
    grid = pixels(tmp_path / "grid.png")
    assert grid.shape == (68, 68, 3)
    assert grid[30, 10].tolist() == [0, 0, 7]
    assert grid[30, 50].tolist() == [200, 0, 7]


def test_a_grids_images_are_at_least_84_pixels_high_unless_told(tmp_path):
    """28x28 enlarged three times, two rows and two columns of them, separators of 2 pixels."""
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), np.uint8)
    assert sample_grid(images, tmp_path / "grid.png") == tmp_path / "grid.png"
    drawn = np.asarray(Image.open(tmp_path / "grid.png"))
    assert drawn.shape == (2 * 86 + 2, 2 * 86 + 2)
    assert (drawn[88 : 88 + 84 : 3, 88 : 88 + 84 : 3] == images[3, 0]).all()


@pytest.mark.parametrize("devices", [1, 10, 200])
def test_a_heat_map_is_white_where_there_is_nothing(devices, tmp_path):
    counts = np.zeros((devices, 10), int)
    counts[:, 0] = 100
    names = [f"class {label}" for label in range(10)]
    empty_right = pixels(partition_heatmap(counts, names, tmp_path / "left.png"))
    full = pixels(partition_heatmap(np.full((devices, 10), 100), names, tmp_path / "full.png"))
    darkest = (68, 1, 84)  # viridis at its end
    bar = count_near(full, darkest) - count_near(empty_right, darkest)
    assert bar > 0.6 * 9 / 10 * count_near(full, darkest)
    assert max(full.shape) < 1900


def test_a_run_figure_draws_each_series_once_and_says_what_is_missing(tmp_path):
    nothing = pixels(run_figure([(0, {})], METRICS, tmp_path / "none.png", "a run"))
    assert count_near(nothing, BLUE) == count_near(nothing, ORANGE) == 0
    history = [(round, {"loss_g": 1.0, "loss_d": 0.5, "bytes_up": 10}) for round in range(1, 6)]
    some = pixels(run_figure(history, METRICS, tmp_path / "some.png", "a run"))
    top, left = some.shape[0] // 2, some.shape[1] // 2
    assert count_near(some[:top, left:], ORANGE) > 100
    assert count_near(some[top:, left:], BLUE) > 100
    assert count_near(some[:, :left], BLUE) == 0
    history = [(round, metrics | {"fid": 50.0 - round, "kl_seen": 1 / round}) for round, metrics in history]
    full = pixels(run_figure(history, METRICS, tmp_path / "full.png", "a run"))
    assert count_near(full[:top, :left], BLUE) > 100
    assert count_near(full[top:, :left], BLUE) > 100


def test_a_run_figure_bears_one_round_and_values_that_are_not_finite(tmp_path):
    history = [(3, {"fid_classifier": 7.0, "loss_g": float("nan"), "loss_d": float("inf")})]
    picture = pixels(run_figure(history, METRICS, tmp_path / "one.png", "a run"))
    top, left = picture.shape[0] // 2, picture.shape[1] // 2
    assert count_near(picture[:top, :left], BLUE) > 10
    assert count_near(picture[:top, left:], BLUE) == 0


def test_a_run_figure_draws_any_tasks_metric(tmp_path):
    """It is not drawn as an FID, and no FID is drawn where the task has none."""
    history = [(round, {"accuracy": round / 10, "fid": 50.0 - round}) for round in range(1, 6)]
    accuracy = [Metric("accuracy", "accuracy", lower_is_better=False)]
    picture = pixels(run_figure(history, accuracy, tmp_path / "accuracy.png", "a run"))
    top, left = picture.shape[0] // 2, picture.shape[1] // 2
    assert count_near(picture[:top, :left], BLUE) > 100
    assert count_near(picture[:top, :left], ORANGE) == 0


def test_a_sampling_figure_spreads_over_the_seeds(tmp_path):
    def draw(spread, name):
        curves = {"balanced": 1.0 + spread * np.array([[-1.0], [0.0], [1.0]]) * np.ones((3, 20))}
        return pixels(sampling_figure(curves, curves, tmp_path / name))

    same, apart = draw(0.0, "same.png"), draw(0.5, "apart.png")
    band = (216, 232, 243)  # 0.18 of the line's blue on white
    assert count_near(apart, BLUE) > 500
    assert count_near(same, band, 4) < 0.1 * count_near(apart, band, 4)


def test_drawing_leaves_pyplot_alone():
    code = "import sys, rayfed.report.pictures; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
