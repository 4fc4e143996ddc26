"""Overrides of the command line: another method in the same file, keys taken out, and no file at all."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rayfed.config import load
from tests.test_cli import TINY, Outcome, rayfed

FILE: dict[str, Any] = TINY | {"evaluation": {"every": 0}, "rounds": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(FILE))
    return tmp_path


def test_another_method_takes_from_the_file_what_it_knows(folder):
    outcome = rayfed(folder, "run", "run.yaml", "method.name=md-gan", "--local", "--json")
    assert (outcome.code, outcome.err.splitlines()[0]) == (0, "run.yaml: md-gan has no method.fraction: left out")
    config = rayfed(folder, "show", outcome.json["run"], "--json").json["config"]
    assert config["method"]["name"] == "md-gan"
    assert (config["method"]["batch"], config["method"]["iterations"]) == (4, 1)


def test_a_key_of_the_command_line_must_be_the_methods(folder):
    outcome = rayfed(folder, "run", "run.yaml", "method.name=md-gan", "method.fraction=0.25", "--local")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("rayfed: method.fraction = 0.25: md-gan has no fraction; known keys: batch, ")


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_overrides_does_not_matter(folder, order):
    overrides = ["method.name=md-gan", "method.batch=8"][::order]
    notices: list[str] = []
    config = load(folder / "run.yaml", overrides, notices.append)
    assert (config.method.name, config.method.batch) == ("md-gan", 8)
    assert notices == [f"{folder}/run.yaml: md-gan has no method.fraction: left out"]


def test_the_files_own_method_named_again_leaves_nothing_out(folder):
    notices: list[str] = []
    config: Any = load(folder / "run.yaml", ["method.name=fegan"], notices.append)
    assert (config.method.fraction, notices) == (0.5, [])


def test_a_key_without_a_value_is_taken_out_and_null_is_null(folder):
    config: Any = load(folder / "run.yaml", ["model.width=", "rounds=", "twin.deadline_s=null"])
    assert (config.model.width, config.rounds, config.twin.deadline_s) == (None, 100, None)
    assert load(folder / "run.yaml", ["evaluation="]).evaluation.every == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "run run.yaml wire=",
            "wire=: there is nothing to unset, wire is not set; wire=null sets it to null",
        ),
        ("run method.name=", "method.name=: there is nothing to unset, method.name is not set; "),
        ("run rounds=3", "method: missing"),
        ("run method.name=fegn", "method.name = 'fegn': must be one of asyn-dgan, "),
        ("run run.yaml method=fegan", "method = 'fegan': must be a section of `key: value` lines"),
    ],
)
def test_what_cannot_be_is_one_line(folder, arguments, message):
    outcome = rayfed(folder, *arguments.split(), "--local")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"rayfed: {message}")


def test_a_run_needs_no_file(tmp_path):
    keys = ["method.name=fl-vanilla", "method.fraction=0.5", "method.batch=4", "method.iterations=1", "rounds=1"]
    more = ["devices.count=4", "data.partition=iid", "model.name=dcgan28", "model.width=4"]
    off = ["evaluation.every=0", "tracking.enabled=false"]
    outcome = rayfed(tmp_path, "run", *keys, *more, *off, "--local", "--json")
    assert (outcome.code, outcome.json["status"], outcome.json["rounds"]) == (0, "finished", 1), outcome.err


def test_a_file_whose_name_has_an_equals_sign_is_a_file(folder):
    (folder / "lr=1.yaml").write_text((folder / "run.yaml").read_text())
    assert rayfed(folder, "run", "lr=1.yaml", "rounds=0", "--local") == Outcome(
        2, "", "rayfed: rounds = 0: must be greater than or equal to 1\n"
    )
