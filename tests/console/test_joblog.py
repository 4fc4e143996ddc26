"""A job's log on a terminal and in a pipe."""

import io

import pytest
from rich.console import Console

from rayfed.config import parse
from rayfed.console.display import ComparisonDisplay, Display
from rayfed.console.joblog import PROGRESS, JobLog
from tests.console.test_display import after, judged

LOG = [
    "starting Ray ...",
    "round 1/3  1,234 images/s  up 2 MB  down 3 MB",
    "round 1: device 2 [left]",
    "round 2/3  999 images/s  up 4 MB  down 6 MB  FID 52.1 (classifier's features)",
    "run    fegan-1 (finished, 3 rounds)",
]


def shown(terminal: bool) -> tuple[JobLog, str]:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, highlight=False)
    with JobLog(console) as log:
        for line in LOG:
            log.line(line)
    return log, console.file.getvalue()


def test_in_a_pipe_the_log_is_what_it_is():
    assert shown(terminal=False)[1].splitlines() == LOG


def test_on_a_terminal_lines_of_progress_move_one_line():
    log, text = shown(terminal=True)
    (task,) = log.progress.tasks
    assert (task.description, task.completed, task.total) == ("round", 2, 3)
    judged = "FID 52.1 (classifier's features)"
    assert task.fields == {"rate": "999", "up": "4", "down": "6", "judged": judged}
    for line in (LOG[0], LOG[2], LOG[4]):
        assert line in text
    assert LOG[1] not in text


@pytest.mark.parametrize("name", [None, "FeGAN, seed 1"])
def test_what_a_run_writes_into_a_log_is_understood(capsys, name):
    config = parse({"rounds": 1, "method": {"name": "fegan"}, "evaluation": {"extractor": "classifier"}})
    callback = (ComparisonDisplay().run(name) if name else Display()).callback(config)
    callback.on_evaluation(judged(0, fid_classifier=52.06), {})
    callback.on_round(after(1))
    found = PROGRESS.fullmatch(capsys.readouterr().err.rstrip("\n"))
    assert found
    assert (found["name"], found["done"], found["rounds"], found["rate"]) == (name, "1", "1", "1,234")
    assert (found["up"], found["down"]) == ("2", "3")
    assert found["judged"].startswith("FID")
