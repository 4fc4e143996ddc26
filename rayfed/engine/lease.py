"""Which process drives a run, so that a second one does not, and a killed run is known for one."""

import os
import socket
from typing import Any

import psutil


def process_facts() -> dict[str, Any]:
    """Who drives the run."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}


def is_alive(facts: dict[str, Any]) -> bool:
    """Whether the process that last drove a run lives on this machine."""
    return facts["host"] == socket.gethostname() and _runs(facts)


def is_dead(facts: dict[str, Any]) -> bool:
    """Whether the process that last drove a run was of this machine and is gone."""
    return facts["host"] == socket.gethostname() and not _runs(facts)


def _runs(facts: dict[str, Any]) -> bool:
    pid = facts["pid"]
    return bool(psutil.pid_exists(pid) and abs(psutil.Process(pid).create_time() - facts["began"]) < 1)
