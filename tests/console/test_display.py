"""What the terminal shows while a run trains: lines in a log, the moving line's fields, a comparison's board."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfed.app.result import Result
from rayfed.cluster.capacity import Ask, Capacity
from rayfed.config import RunConfig, parse
from rayfed.console.display import ComparisonDisplay, Display
from rayfed.console.tables import closing_table, comparison_table, costs_table
from rayfed.data.population import Population
from rayfed.engine.checkpoint import Checkpoint
from rayfed.methods.state import State
from rayfed.plugins import methods
from rayfed.report.numbers import shown
from rayfed.tasks.base import EvaluationResult, Metric
from rayfed.tasks.gan import GanTask


def config(rounds: int = 3) -> RunConfig:
    return parse({"rounds": rounds, "method": {"name": "centralized"}, "evaluation": {"extractor": "classifier"}})


def after(round: int) -> Checkpoint:
    """A round that moved 2 MB up and 3 MB down and trained on 1,234 images a second."""
    twin: Any = {}
    metrics = {"bytes_up": 2e6, "bytes_down": 3e6, "images_per_s": 1234.4}
    return Checkpoint(State(round, {}), (), twin, metrics=metrics)


def judged(round: int, **metrics: float) -> EvaluationResult:
    return EvaluationResult(round, metrics, {})


def fields(display: Display) -> dict[str, Any]:
    (task,) = display.progress.tasks
    return dict(task.fields)


def test_a_log_gets_the_first_and_the_last_line_of_rounds_that_follow_each_other_at_once(capsys):
    display = Display()
    line = display.callback(config())
    with display.live(0):
        for round in (1, 2, 3):
            if round == 3:
                line.on_evaluation(judged(2, fid_classifier=47.25), {})
            line.on_round(after(round))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "round 1/3  1,234 images/s  up 2 MB  down 3 MB",
        "round 3/3  1,234 images/s  up 6 MB  down 9 MB  FID 47.2 (classifier's features)",
    ]


def test_the_moving_line_counts_rounds_and_bytes_from_where_a_resumed_run_stands():
    display = Display(quiet=True)
    line = display.callback(config(rounds=8))
    with display.live(5):
        (task,) = display.progress.tasks
        assert (task.description, task.completed, task.total) == ("round", 5, 8)
        assert fields(display) == {"rate": "-", "up": "0", "down": "0", "judged": ""}
        line.on_round(after(6))
        line.on_round(after(7))
        (task,) = display.progress.tasks
        assert (task.completed, task.total) == (7, 8)
        assert fields(display) == {"rate": "1,234", "up": "4", "down": "6", "judged": ""}


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"fid": 12.5}, "FID 12.5"),
        ({"fid": 12.5, "fid_classifier": 7.0}, "FID 12.5"),
        ({"fid_classifier": 7.0}, "FID 7 (classifier's features)"),
        ({}, ""),
    ],
)
def test_the_primary_metric_needs_no_name_of_its_features(metrics, text):
    display = Display(quiet=True)
    line = display.callback(config())
    with display.live(0):
        line.on_evaluation(judged(1, **metrics), {})
        assert fields(display)["judged"] == text


def result(value: float) -> Result:
    """A run whose one FID this is."""
    row = {"fid_classifier": value, "images": 10, "seconds": 2.0, "bytes_up": 1.0, "bytes_down": 1.0}
    counts = Population(1, *[None] * 3)  # type: ignore[list-item]
    return Result("run", "finished", config(1), [(0, {}, []), (1, row, [0])], Path("x"), "", counts, None, None)


@pytest.mark.parametrize("value", [47.55, 47.45, 0.05, 0.12345, 3.14159, 9.999, 99.95, 1086.5, 12.0])
def test_a_figure_reads_the_same_in_the_live_line_and_in_every_table(value):
    """Where the line said 47.5 the table must not say 47.6."""
    display = Display(quiet=True)
    line = display.callback(config())
    with display.live(0):
        line.on_evaluation(judged(1, fid_classifier=value), {})
        live = fields(display)["judged"]
    ended = result(value)
    table = closing_table(ended.summary(), ended.task.metrics)
    last = re.search(r"^FID .*last (\S+)$", table, re.MULTILINE)
    figures = ["rounds", "best", "last", "sim_seconds", "sim_seconds_to_common"]
    figures += ["bytes_device", "bytes_device_to_common", "images_per_sim_s", "images_per_s"]
    summary = {figure: {"mean": value, "spread": None, "seeds": {}} for figure in figures}
    document = {"metric": {"label": "FID"}, "common": value, "runs": {"run": {"summary": summary, "series": {}}}}
    cells = [next(iter(column.cells)) for column in comparison_table(document).columns]
    costs = costs_table(document).columns
    headers = [str(column.header) for column in costs]
    assert last
    assert last.group(1) == shown(value)
    assert live == f"FID {shown(value)} (classifier's features)"
    assert cells[2:] == [shown(value)] * 4
    assert [next(iter(column.cells)) for column in costs[1:3]] == [shown(value)] * 2
    assert f"sim. s to\nFID {shown(value)}" in headers
    assert float(shown(value).replace(",", "")) == pytest.approx(value, rel=1e-2)


def test_a_quiet_display_says_nothing(capsys):
    display = Display(quiet=True)
    line = display.callback(config(1))
    with display.live(0):
        display.notice("something")
        line.on_round(after(1))
    assert capsys.readouterr() == ("", "")


CAPACITY = Capacity(
    asks=(Ask("server", 1, {}), Ask("device_host", 2, {"CPU": 0.5})),
    nodes=({"CPU": 1, "memory": 8e9}, {"CPU": 3}),
    unplaced=(Ask("device_host", 1, {"CPU": 0.5}),),
)


@pytest.mark.parametrize(("scaling", "more"), [(False, []), (True, ["1 device_host at 0.5 CPU each"])])
def test_what_was_asked_of_the_cluster_is_told(capsys, scaling, more):
    Display().capacity(CAPACITY, scaling)
    assert capsys.readouterr().err.splitlines() == [
        "actors: 1 server, 2 device_host at 0.5 CPU each",
        "cluster: 4 CPU, 8 GB memory on 2 nodes",
        *(f"asked of the autoscaler: {ask}" for ask in more),
    ]


def test_a_board_has_a_line_for_each_run_that_trains_and_says_a_thing_once(capsys):
    board = ComparisonDisplay()
    one, two = board.run("one"), board.run("two")
    first, second = one.callback(config(3)), two.callback(config(4))

    def lines() -> list[tuple[str, float, float | None]]:
        return [(task.description, task.completed, task.total) for task in board.display.progress.tasks]

    with one.live(0), two.live(2):
        assert lines() == [("one", 0, 3), ("two", 2, 4)]
        first.on_round(after(1))
        second.on_round(after(4))
        second.on_evaluation(judged(4, fid_classifier=5.25), {})
        assert lines() == [("one", 1, 3), ("two", 4, 4)]
        assert [task.fields["judged"] for task in board.display.progress.tasks] == [
            "",
            "FID 5.25 (classifier's features)",
        ]
        one.notice("many small devices")
        two.notice("many small devices")
        two.capacity(CAPACITY, scaling=True)
    assert lines() == []
    assert capsys.readouterr().err.splitlines() == [
        "one: round 1/3  1,234 images/s  up 2 MB  down 3 MB",
        "two: round 4/4  1,234 images/s  up 2 MB  down 3 MB",
        "many small devices",
        "two: asked of the autoscaler: 1 device_host at 0.5 CPU each",
    ]


class Classified(GanTask):
    """A task with another figure."""

    metrics = (Metric("accuracy", "accuracy", "on the test set", lower_is_better=False),)


TASK = Classified()
SPEC = replace(methods()["centralized"], task_name=f"{__name__}:TASK")


def test_a_line_shows_the_figure_of_the_runs_own_task():
    display = Display(quiet=True)
    line = display.callback(parse({"method": {"name": f"{__name__}:SPEC"}}))
    with display.live(0):
        line.on_evaluation(judged(1, accuracy=0.875, fid=12.5), {})
        assert fields(display)["judged"] == "accuracy 0.875"
