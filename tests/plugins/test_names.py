"""Dotted names: a module that is installed or lies in the working directory, and one line for whatever is wrong."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayfed import plugins
from rayfed.errors import UserError
from rayfed.tasks import task
from tests.plugins.commands import Outcome, rayfed

TINY: dict[str, Any] = {
    "rounds": 1,
    "method": {"name": "fegan", "fraction": 0.5, "iterations": 1, "batch": 4},
    "devices": {"count": 4},
    "data": {"partition": "iid"},
    "model": {"name": "dcgan28", "width": 4},
    "evaluation": {"every": 0},
    "tracking": {"enabled": False},
}
KEYS = ("method.name", "model.name", "data.name")
BROKEN = {
    "needs_another.py": "import numpy\nimport not_there_at_all\n",
    "bad_syntax.py": "OBJECT = 1\ndef f(:\n",
    "ends_itself.py": "import sys\nsys.exit('usage: ends_itself FILE')\n",
    "divides.py": "OBJECT = 1 / 0\n",
    "says_nothing.py": "raise RuntimeError\n",
    "many_lines.py": "raise ValueError('one\\n  two')\n",
    "empty.py": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration, and modules that do not import."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    for name, text in BROKEN.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere:OBJECT",
            "cannot import nowhere (ModuleNotFoundError: No module named 'nowhere')",
        ),
        (
            "numpy.nowhere:OBJECT",
            "cannot import numpy.nowhere (ModuleNotFoundError: No module named 'numpy.nowhere')",
        ),
        (
            "needs_another:OBJECT",
            "cannot import needs_another (ModuleNotFoundError: No module named 'not_there_at_all')",
        ),
        ("bad_syntax:OBJECT", "cannot import bad_syntax (SyntaxError: invalid syntax (bad_syntax.py, line 2))"),
        ("ends_itself:OBJECT", "cannot import ends_itself (SystemExit: usage: ends_itself FILE)"),
        ("divides:OBJECT", "cannot import divides (ZeroDivisionError: division by zero)"),
        ("says_nothing:OBJECT", "cannot import says_nothing (RuntimeError)"),
        ("many_lines:OBJECT", "cannot import many_lines (ValueError: one two)"),
        ("empty:OBJECT", "empty has no OBJECT, as in package.module:OBJECT"),
        ("empty:", "empty is a module; name an object in it, as in package.module:OBJECT"),
        (":OBJECT", "cannot import  (ValueError: Empty module name)"),
    ],
)
def test_a_name_that_stands_for_nothing_is_told_in_one_line(folder: Path, key: str, name: str, message: str) -> None:
    outcome = rayfed(folder, "run", "tiny.yaml", "--local", f"{key}={name!r}")
    assert outcome == Outcome(2, "", f"rayfed: {key} = {name!r}: {message}\n")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("method.name", "is a module; it must be a rayfed.methods.spec.MethodSpec"),
        ("model.name", "is a module; it must be a rayfed.models.networks.Architecture"),
        ("data.name", "is not callable (module); it must be a function of (root, size)"),
    ],
)
def test_another_object_is_told_in_one_line(folder: Path, key: str, message: str) -> None:
    (folder / "holds_a_module.py").write_text("import json as OBJECT\n")
    outcome = rayfed(folder, "run", "tiny.yaml", "--local", f"{key}=holds_a_module:OBJECT")
    assert outcome == Outcome(2, "", f"rayfed: {key} = 'holds_a_module:OBJECT': {message}\n")


def test_a_class_is_no_method() -> None:
    with pytest.raises(UserError, match=r"is a class; it must be a rayfed\.methods\.spec\.MethodSpec"):
        plugins.method("rayfed.methods.fegan:Settings")


@pytest.mark.parametrize("name", [None, 3, ["fegan"], {"name": "fegan"}, "fegam"])
def test_a_name_that_nobody_has_is_told_with_those_that_there_are(name: object) -> None:
    with pytest.raises(UserError) as caught:
        plugins.method(name)
    assert str(caught.value).startswith(f"method.name = {name!r}: must be one of ")
    assert ", fegan, " in str(caught.value)
    assert str(caught.value).endswith(", or package.module:METHOD")


def test_a_module_of_the_working_directory_is_found_though_written_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a console script begins: the working directory is not on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    with pytest.raises(UserError, match="No module named 'just_written'"):
        plugins.load_object("data.name", "just_written:load")
    (tmp_path / "just_written.py").write_text("def load(root, size): return 42\n")
    assert plugins.load_object("data.name", "just_written:load")(None, None) == 42
    assert sys.path.count(str(tmp_path)) == 1


def test_the_task_of_a_method_is_an_object() -> None:
    with pytest.raises(UserError) as caught:
        task("rayfed.tasks.gan:GanTask")
    message = "is a class; it must be an object that is a rayfed.tasks.base.Task"
    assert str(caught.value) == f"task = 'rayfed.tasks.gan:GanTask': {message}"
