"""Whose run it is: this process, one that has ended, one on another machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rayfed.app.runs import refuse_driven
from rayfed.engine import lease
from rayfed.engine.lease import driving, is_dead, is_driven, process_facts
from rayfed.errors import UserError
from rayfed.store import Store


def test_this_process_lives():
    facts = process_facts()
    assert facts["pid"] == os.getpid()
    assert (is_driven(facts), is_dead(facts)) == (True, False)


def test_a_process_that_ended_is_dead():
    command = "import json; from rayfed.engine.lease import process_facts; print(json.dumps(process_facts()))"
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=True)
    facts = json.loads(ended.stdout)
    assert (is_driven(facts), is_dead(facts)) == (False, True)


def test_a_pid_used_again_is_another_process():
    facts = process_facts()
    facts["began"] -= 3600
    assert (is_driven(facts), is_dead(facts)) == (False, True)


def test_of_another_machine_a_lease_that_lasts_is_believed():
    facts = process_facts() | {"host": "another-machine.invalid"}
    assert (is_driven(facts), is_dead(facts)) == (True, False)


def test_a_run_has_one_driver_at_a_time(tmp_path: Path) -> None:
    store, second = (Store(f"sqlite:///{tmp_path / 'store.db'}") for _ in range(2))
    store.create_run("run", {}, {})
    with driving(store, "run"):
        with pytest.raises(UserError, match=f"run run is driven by process {os.getpid()} on"):
            second.take_lease("run", process_facts(), 10, is_dead)
        assert is_driven(second.run("run").holder)
    assert second.run("run").holder is None


def test_a_driver_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.4)
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.create_run("run", {}, {})
    with driving(store, "run"):
        time.sleep(1)
        assert is_driven(store.run("run").holder)


def test_a_driver_that_was_taken_over_ends_without_touching_the_lease(tmp_path: Path) -> None:
    store, second = (Store(f"sqlite:///{tmp_path / 'store.db'}") for _ in range(2))
    store.create_run("run", {}, {})
    with driving(store, "run"):
        second.take_lease("run", {"host": "there", "pid": 2}, 10, lambda holder: True)
    assert second.run("run").holder == {"host": "there", "pid": 2}


def test_who_removes_a_run_of_another_machine_is_told_to_wait(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.create_run("run", {}, {})
    store.take_lease("run", {"host": "another-machine.invalid", "pid": 2}, 10)
    message = (
        "run run is still running in process 2 on another-machine.invalid; stop that first; if that is gone, try again "
        "in 10 s"
    )
    with pytest.raises(UserError, match=message):
        refuse_driven(store.run("run"))
