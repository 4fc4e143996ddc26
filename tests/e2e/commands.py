"""The command line in processes of their own, and an end to every wait for them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from rayfed.store import Store

STARTED_S = 200
"""For a run to start on a busy machine."""
RAY_AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
"""Ray's own, 100 MB each: without a raylet they look for the head for a minute before they end."""


def environment() -> dict[str, str]:
    """As in a user's shell: what these tests have set for their own Ray is not passed on."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}


def rayfed(
    folder: Path, *arguments: str, timeout: float = STARTED_S, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command, to its end; `more` is added to its environment."""
    with running(folder, *arguments, more=more) as process:
        process.wait(timeout)
    out, err = ((folder / name).read_text() for name in ("out.txt", "err.txt"))
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@contextmanager
def running(folder: Path, *arguments: str, more: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """One command in a process group of its own, writing out.txt and err.txt; whatever happens, it ends."""
    with (folder / "out.txt").open("w") as out, (folder / "err.txt").open("w") as err:
        command = [sys.executable, "-m", "rayfed", *arguments]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment() | dict(more or {}),
            stdout=out,
            stderr=err,
            start_new_session=True,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                end([psutil.Process(process.pid), *descendants(process)])
                process.wait(10)


def store_of(folder: Path) -> Store:
    """The store in a folder's runs folder."""
    return Store(f"sqlite:///{folder}/rayfed-runs/rayfed.db")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        if process.is_running():
            process.kill()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for a condition while a process runs."""
    deadline = time.monotonic() + STARTED_S
    while not condition():
        assert process.poll() is None, (folder / "err.txt").read_text()
        assert time.monotonic() < deadline, (folder / "err.txt").read_text()
        time.sleep(0.05)


def wait_for_rounds(process: subprocess.Popen[str], folder: Path, store: Store, count: int) -> float:
    """Wait until the folder's one run has committed `count` more rounds; the seconds the last of them took."""

    def rounds() -> int:
        return next((record.rounds or 0 for record in store.runs()), 0)

    start = rounds()
    for target in range(start + 1, start + count + 1):
        began = time.monotonic()
        wait_until(lambda target=target: rounds() >= target, process, folder)
    return time.monotonic() - began


def kill_driver(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the driver alone; all that trains, and Ray's head, must follow it by themselves."""
    names = {child: child.name() for child in descendants(process)}
    assert any(name.startswith("ray::DeviceHost") for name in names.values())
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    try:
        assert_gone([child for child, name in names.items() if name not in RAY_AGENTS])
    finally:
        end(list(names))


def assert_gone(processes: Sequence[psutil.Process], seconds: float = 30) -> None:
    """All have ended within the time; those that nobody has reaped yet have ended too."""
    deadline = time.monotonic() + seconds
    while left := [process for process in processes if _lives(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
