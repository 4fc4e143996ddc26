"""Early stopping: when a run ends by its evaluations, by hand; callbacks of one's own that end a run."""

import math
from pathlib import Path
from typing import Any

import pytest

import rayfed
from rayfed import EarlyStopping
from rayfed.config import parse
from rayfed.errors import UserError
from rayfed.tasks.base import EvaluationResult
from tests.test_cli import TINY, Outcome
from tests.test_cli import rayfed as command


def ends(values: list[float], past: list[float] = [], **settings: Any) -> tuple[int | None, str | None]:  # noqa: B006
    """After which of these FIDs a run with such settings ends, counted from 1, and why."""
    callback = EarlyStopping(**settings)
    callback.on_begin(parse(TINY), [(round, {"fid_classifier": value}) for round, value in enumerate(past)])
    for number, value in enumerate(values, 1):
        callback.on_evaluation(EvaluationResult(number, {"fid_classifier": value}, {}), {})
        if callback.stop_reason:
            return number, callback.stop_reason
    return None, None


@pytest.mark.parametrize(
    ("values", "settings", "end"),
    [
        ([9, 8, 7, 6], {"target": 7.5}, (3, "FID 7 has reached 7.50")),
        ([9, 8], {"target": 8}, (2, "FID 8 has reached 8")),
        ([9, 8], {"target": 7}, (None, None)),
        ([9, 8, 9, 8.5, 8, 8], {"patience": 3}, (5, "FID has not got better than 8 in 3 evaluations")),
        ([9, 10, 8, 9, 9], {"patience": 2}, (5, "FID has not got better than 8 in 2 evaluations")),
        ([9, 9], {"patience": 1}, (2, "FID has not got better than 9 in 1 evaluation")),
        ([math.nan, math.nan], {"patience": 2}, (2, "FID has not got better in 2 evaluations")),
        ([9, math.nan, 8, 7], {"patience": 2, "target": 7.5}, (4, "FID 7 has reached 7.50")),
        ([9, 8, 7], {"patience": 9, "metric": "fid_classifier", "target": 8}, (2, "FID 8 has reached 8")),
    ],
)
def test_a_run_ends_when_its_metric_is_good_enough_or_gets_no_better(values, settings, end):
    assert ends(values, **settings) == end


def test_a_resumed_run_remembers_its_evaluations():
    """The best, 5, is three evaluations old after the first new one."""
    assert ends([7], past=[9, 5, 6, 7], patience=3) == (1, "FID has not got better than 5 in 3 evaluations")
    assert ends([7], past=[9, 5, 6, 7], patience=4) == (None, None)


def test_a_picture_without_figures_decides_nothing_and_another_metric_is_an_error():
    callback = EarlyStopping("fid", target=1.0)
    callback.on_begin(parse(TINY), [])
    callback.on_evaluation(EvaluationResult(0, {}, {}), {})
    assert callback.stop_reason is None
    with pytest.raises(UserError, match=r"^stop.metric = 'fid': was not measured; what was: fid_classifier$"):
        callback.on_evaluation(EvaluationResult(1, {"fid_classifier": 2.0}, {}), {})
    with pytest.raises(UserError, match=r"^stop.metric = 'zebra': must be one of fid, fid_classifier$"):
        EarlyStopping("zebra", 1).on_begin(parse(TINY), [])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("stop.metric=fid", "stop.metric = 'fid': needs stop.patience or stop.target, which say when"),
        ("stop.patience=0", "stop.patience = 0: must be greater than or equal to 1"),
        ("stop.patence=2", "stop.patence = 2: unknown key; did you mean stop.patience?"),
        ("stop.target=none", "stop.target = 'none': must be a valid number"),
    ],
)
def test_what_cannot_stop_a_run_is_refused_in_one_line(tmp_path, more, message):
    outcome = command(tmp_path, "run", "method.name=fegan", more, "--local")
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")


def test_stopping_needs_evaluations(tmp_path):
    outcome = command(tmp_path, "run", "method.name=fegan", "stop.target=5", "evaluation.every=0", "--local")
    assert (outcome.code, outcome.err) == (
        2,
        "rayfed: evaluation.every = 0: stop needs evaluations; set the rounds between two of them\n",
    )


class Until(rayfed.Callback):
    """Ends a run after a round."""

    def __init__(self, round: int) -> None:
        self.last, self.heard = round, list[str]()

    def on_begin(self, config, history):
        self.heard.append(f"begin {config.rounds} {len(history)}")

    def on_round(self, checkpoint):
        self.heard.append(f"round {checkpoint.round}")
        if checkpoint.round == self.last:
            self.stop_reason = "that is enough"

    def on_end(self, checkpoint):
        self.heard.append(f"end {checkpoint.round}")


@pytest.fixture
def quiet(tmp_path: Path) -> dict[str, Any]:
    return {"local": True, "progress": False, "runs_dir": str(tmp_path), "tracking__enabled": False}


def config() -> Any:
    return parse(TINY | {"rounds": 5, "evaluation": {"every": 0}})


def test_a_callback_of_ones_own_ends_a_run_and_the_run_can_go_on(quiet):
    until = Until(2)
    result = rayfed.run(config(), callbacks=[until], **quiet)
    assert (result.status, len(result.metrics)) == ("finished", 2)
    assert until.heard == ["begin 5 0", "round 1", "round 2", "end 2"]
    with pytest.raises(
        UserError, match=r"is finished \(2 rounds\); .*: that is enough; `rayfed resume .* stop=` goes on"
    ):
        rayfed.resume(result.run_id, runs_dir=quiet["runs_dir"], local=True, progress=False)
    again = Until(4)
    more = rayfed.resume(
        result.run_id, ["stop="], runs_dir=quiet["runs_dir"], local=True, progress=False, callbacks=[again]
    )
    assert again.heard == ["begin 5 3", "round 3", "round 4", "end 4"]
    assert (more.status, len(more.metrics)) == ("finished", 4)


@pytest.mark.parametrize("metric", ["zebra", "fid"])
def test_a_metric_that_is_not_measured_is_refused_before_anything_starts(tmp_path, metric):
    keys = ["method.name=fegan", "method.fraction=0.5", f"stop.metric={metric}", "stop.target=5"]
    outcome = command(tmp_path, "run", *keys, "evaluation.extractor=classifier", "data.max_class=5", "--local")
    assert outcome == Outcome(2, "", f"rayfed: stop.metric = '{metric}': is not measured; what is: fid_classifier\n")
    assert list(tmp_path.iterdir()) == []
