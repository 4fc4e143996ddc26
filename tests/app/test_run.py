"""How to go on with a run, as the closing table says it."""

import shlex

import pytest

from rayfed.app.result import resume_command
from rayfed.config import parse


@pytest.mark.parametrize(
    ("settings", "rest"),
    [
        ({}, []),
        ({"runs_dir": "other runs"}, ["--runs-dir", "other runs"]),
        ({"store": {"url": "sqlite://"}}, ["--store", "sqlite://"]),
        ({"runs_dir": "other", "store": {"url": "sqlite://"}}, ["--store", "sqlite://"]),
    ],
)
def test_the_command_names_where_the_run_is_unless_that_is_the_default(settings, rest):
    config = parse({"method": {"name": "centralized"}} | settings)
    command = resume_command("centralized-1a2b3c", config)
    assert shlex.split(command) == ["rayfed", "resume", "centralized-1a2b3c", *rest]
