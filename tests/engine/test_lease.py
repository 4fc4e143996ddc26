"""Whose run it is: this process, one that has ended, one on another machine."""

import json
import os
import subprocess
import sys

from rayfed.engine.lease import is_alive, is_dead, process_facts


def test_this_process_lives():
    facts = process_facts()
    assert facts["pid"] == os.getpid()
    assert (is_alive(facts), is_dead(facts)) == (True, False)


def test_a_process_that_ended_is_dead():
    command = "import json; from rayfed.engine.lease import process_facts; print(json.dumps(process_facts()))"
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=True)
    facts = json.loads(ended.stdout)
    assert (is_alive(facts), is_dead(facts)) == (False, True)


def test_a_pid_used_again_is_another_process():
    facts = process_facts()
    facts["began"] -= 3600
    assert (is_alive(facts), is_dead(facts)) == (False, True)


def test_of_another_machine_nothing_is_known():
    facts = process_facts() | {"host": "another-machine.invalid"}
    assert (is_alive(facts), is_dead(facts)) == (False, False)
