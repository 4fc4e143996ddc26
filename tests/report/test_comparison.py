"""A comparison's figures against hand computation, and its picture pixel by colour."""

import math

import numpy as np
import pytest
from PIL import Image

from rayfed.report.comparison import course, document, long_rows, mean_and_spread, summarise
from rayfed.report.comparison_figure import comparison_figure
from rayfed.tasks.base import Metric
from rayfed.tasks.gan import FID, FID_CLASSIFIER, GanTask

METRICS = GanTask.metrics


def history(fids, seconds=2.0, nbytes=3e6, images=40, wall=0.5, name="fid_classifier"):
    """Round 0 and one round per FID; None: not measured."""
    rounds = [(0, {})]
    for round, fid in enumerate(fids, 1):
        metrics = {"sim_total_seconds": seconds * round, "bytes_device_max": nbytes, "images": images, "seconds": wall}
        rounds.append((round, metrics if fid is None else metrics | {name: fid}))
    return rounds


TWO = {
    "slow": {0: history([90.0, None, 50.0]), 1: history([80.0, None, 60.0])},
    "fast": {0: history([70.0, 30.0], seconds=1.0), 1: history([40.0, 44.0], seconds=1.0)},
}


def test_the_figures_of_every_seed():
    summary = summarise(TWO, METRICS)
    assert (summary.metric, summary.common) == (FID_CLASSIFIER, 60.0)  # slow's second seed
    assert summary.figures["slow"] == {
        "rounds": [3, 3],
        "best": [50.0, 60.0],
        "last": [50.0, 60.0],
        "sim_seconds": [6.0, 6.0],
        "sim_seconds_to_common": [6.0, 6.0],
        "bytes_device": [9e6, 9e6],
        "bytes_device_to_common": [9e6, 9e6],
        "images_per_sim_s": [20.0, 20.0],
        "images_per_s": [80.0, 80.0],
    }
    assert summary.figures["fast"]["best"] == [30.0, 40.0]
    assert summary.figures["fast"]["last"] == [30.0, 44.0]
    assert summary.figures["fast"]["sim_seconds_to_common"] == [2.0, 1.0]
    assert summary.figures["fast"]["bytes_device_to_common"] == [6e6, 3e6]


def test_the_fid_that_all_runs_have_is_compared():
    both = [(round, metrics | {"fid": 7.0}) for round, metrics in history([9.0])[1:]]
    inception = history([5.0], name="fid")
    assert summarise({"a": {0: both}, "b": {0: inception}}, METRICS).metric == FID
    assert summarise({"a": {0: both}, "b": {0: history([4.0])}}, METRICS).metric == FID_CLASSIFIER


def test_runs_without_an_fid_or_without_a_round_have_gaps():
    summary = summarise({"a": {0: history([None])}, "b": {}, "c": {0: [(0, {})]}}, METRICS)
    assert (summary.metric, summary.common) == (None, None)
    assert summary.figures["a"]["best"] == [None]
    assert summary.figures["a"]["images_per_sim_s"] == [20.0]
    assert summary.figures["b"]["rounds"] == []
    assert summary.figures["c"]["rounds"] == [None]


def test_an_fid_that_is_not_finite_is_left_out():
    found = course(history([math.nan, 5.0]), FID_CLASSIFIER)
    assert [values.tolist() for values in (found.rounds, found.seconds, found.nbytes, found.values)] == [
        [2],
        [4],
        [6e6],
        [5],
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 3.0], (2.0, math.sqrt(2))), ([5.0], (5.0, None)), ([None, 4.0], (4.0, None)), ([None], (None, None))],
)
def test_mean_and_sample_standard_deviation(values, expected):
    assert mean_and_spread(values) == pytest.approx(expected)


def test_the_long_table_has_a_row_per_measured_round():
    rows = long_rows(TWO, METRICS)
    assert [(row["run"], row["seed"], row["round"]) for row in rows[:3]] == [
        ("slow", 0, 1),
        ("slow", 0, 3),
        ("slow", 1, 1),
    ]
    assert rows[1] == {
        "run": "slow",
        "seed": 0,
        "round": 3,
        "fid": "",
        "fid_classifier": 50.0,
        "sim_seconds": 6.0,
        "wall_seconds": 1.5,
        "images": 120,
        "bytes_device": 9_000_000,
    }
    assert len(rows) == 8


def test_the_document_holds_every_round_and_no_nan():
    histories = {"a": {3: history([None, math.inf, 5.0])}}
    tree = document(histories, summarise(histories, METRICS), METRICS)
    series = tree["runs"]["a"]["series"]["3"]
    assert (series["round"], series["fid_classifier"]) == ([1, 2, 3], [None, None, 5.0])
    assert series["sim_total_seconds"] == [2.0, 4.0, 6.0]
    assert tree["runs"]["a"]["summary"]["best"] == {"mean": 5.0, "spread": None, "seeds": {"3": 5.0}}


ACCURACY = Metric("accuracy", "accuracy", "on the test set", lower_is_better=False)


def test_where_more_is_better_the_best_is_the_most_and_the_common_value_the_least_of_those():
    """The worst of the two best is 0.75, which `high` has reached after its second round."""
    runs = {"low": {0: history([0.5, 0.75], name="accuracy")}, "high": {0: history([0.25, 0.875], name="accuracy")}}
    summary = summarise(runs, [ACCURACY])
    assert (summary.metric, summary.common) == (ACCURACY, 0.75)
    assert [summary.figures[run]["best"] for run in runs] == [[0.75], [0.875]]
    assert [summary.figures[run]["sim_seconds_to_common"] for run in runs] == [[4.0], [4.0]]
    tree = document(runs, summary, [ACCURACY])
    assert tree["metric"] == {
        "name": "accuracy",
        "label": "accuracy",
        "detail": "on the test set",
        "lower_is_better": False,
    }
    assert tree["common"] == 0.75
    assert tree["runs"]["low"]["series"]["0"]["accuracy"] == [0.5, 0.75]
    assert [row["accuracy"] for row in long_rows(runs, [ACCURACY])] == [0.5, 0.75, 0.25, 0.875]


def test_the_document_of_runs_that_were_not_judged_has_no_metric():
    runs = {"a": {0: history([None])}}
    tree = document(runs, summarise(runs, METRICS), METRICS)
    assert (tree["metric"], tree["common"]) == (None, None)


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def near(path, color):
    """Pixels of a colour in each quarter of a picture: top left, top right, bottom left, bottom right."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    hit = (np.abs(pixels - np.array(color)) <= 12).all(axis=2)
    height, width = hit.shape
    quarters = (slice(0, height // 2), slice(height // 2, int(height * 0.93)))  # the legend is below
    return [int(hit[rows, half].sum()) for rows in quarters for half in (slice(0, width // 2), slice(width // 2, None))]


def test_every_run_is_in_every_panel(tmp_path):
    throughput = {"slow": {2: 10.0, 4: 20.0}, "fast": {2: 30.0, 4: 90.0}}
    path = comparison_figure(TWO, summarise(TWO, METRICS), throughput, tmp_path / "c.png", "two")
    for color in (BLUE, ORANGE):
        assert min(near(path, color)) > 150


def test_a_panel_without_data_says_so(tmp_path):
    none = {"slow": {0: history([None])}, "fast": {}}
    path = comparison_figure(
        none, summarise(none, METRICS), {"slow": {2: 10.0, 4: 20.0}, "fast": {}}, tmp_path / "c.png", "none"
    )
    assert near(path, BLUE)[:3] == [0, 0, 0]
    assert near(path, BLUE)[3] > 150
    assert min(near(path, (128, 128, 128))[:3]) > 50  # "not measured" in grey


def test_the_document_has_the_joules_of_those_that_were_measured():
    told = [(round, metrics | {"joules": 2.5 * round}) for round, metrics in history([9.0, 8.0])[1:]]
    runs = {"told": {0: told}, "silent": {0: history([7.0])}}
    series = {
        name: run["series"]["0"] for name, run in document(runs, summarise(runs, METRICS), METRICS)["runs"].items()
    }
    assert series["told"]["joules"] == [2.5, 5.0]
    assert series["silent"]["joules"] == [None]
    assert "joules" not in document(TWO, summarise(TWO, METRICS), METRICS)["runs"]["slow"]["series"]["0"]
