"""The command line in this process: quick, and what was imported stays imported."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from rayfed import cli
from rayfed.store import Commit, Store
from tests import states
from tests.e2e.commands import descendants, end

ENDED_S = 200
"""For a command to end on a busy machine."""


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def rayfed(folder: Path, *arguments: str) -> Outcome:
    """One command as the shell would run it in `folder`; the import path is afterwards what it was before."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "argv", ["rayfed", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return Outcome(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def summary(folder: Path, *arguments: str) -> Any:
    """What a command that ends well says as JSON."""
    outcome = rayfed(folder, *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def last_commit(folder: Path, run: str) -> Commit:
    """The last commit of a run of this folder."""
    store = Store(f"sqlite:///{folder}/rayfed-runs/rayfed.db")
    try:
        return states.last_commit(store, run)
    finally:
        store.close()


def assert_same_bits(one: Commit, other: Commit) -> None:
    """The server's arrays and facts, and every device's arrays, are the same."""
    assert one.round == other.round
    assert one.arrays.keys() == other.arrays.keys()
    for name, vector in one.arrays.items():
        assert vector.tobytes() == other.arrays[name].tobytes(), name
    assert one.facts == other.facts
    assert {name: array.tobytes() for name, array in one.tables.items()} == {
        name: array.tobytes() for name, array in other.tables.items()
    }
    assert one.devices.keys() == other.devices.keys()
    for device, state in one.devices.items():
        assert {name: array.tobytes() for name, array in state.items()} == {
            name: array.tobytes() for name, array in other.devices[device].items()
        }, device


def script(folder: Path, *arguments: str, program: str = "rayfed", **environment: str) -> Outcome:
    """One command of the installed script, or of `python`, in a process of its own; whatever happens, it ends.

    Its environment is a user's, and `environment`: what tests have set for their own Ray is not passed on.
    """
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=ENDED_S)
    finally:
        if process.poll() is None:
            end([psutil.Process(process.pid), *descendants(process)])
            process.wait(10)
    return Outcome(process.returncode, out, err)
