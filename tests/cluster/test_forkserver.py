"""Workers are forked from a process that has torch, and end, restart and start without it as workers do."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from rayfed.cluster.forkserver import fork_server
from tests.e2e.commands import RAY_AGENTS, assert_gone, descendants, end, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
about = {
    "arguments": sys.argv[1:], "colour": os.environ.get("COLOUR"), "folder": os.getcwd(), "pid": os.getpid(),
    "group": os.getpgid(0),
    "parent": os.getppid(), "torch": "torch" in sys.modules, "ray": "ray" in sys.modules, "main": __name__,
    "threads": len(os.listdir("/proc/self/task")),
    "signals": [str(signal.getsignal(each)) for each in (signal.SIGCHLD, signal.SIGTERM)],
}
print(json.dumps(about), flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
if sys.argv[1] == "hang":
    import ctypes
    libc = ctypes.CDLL(None)
    libc.__cxa_atexit(libc.pause, None, None)
"""
RAY = """
import json, os, signal, sys, time
from rayfed.cluster import prepare_environment
prepare_environment(None)
import ray
from rayfed.cluster.connection import connected
from rayfed.config import Ray

@ray.remote(max_restarts=-1, max_task_retries=-1)
class Actor:
    def about(self):
        return {"pid": os.getpid(), "parent": os.getppid(), "torch": "torch" in sys.modules}

with connected(Ray()):
    actor = Actor.remote()
    found = [ray.get(actor.about.remote())]
    print(json.dumps(found), file=sys.__stdout__, flush=True)
    if sys.argv[1:] == ["wait"]:
        time.sleep(60)
    os.kill(found[-1]["pid"], signal.SIGKILL)
    found.append(ray.get(actor.about.remote()))
    os.kill(found[-1]["parent"], signal.SIGKILL)
    found.append(ray.get(actor.about.remote()))
    os.kill(found[-1]["pid"], signal.SIGKILL)
    found.append(ray.get(actor.about.remote()))
print(json.dumps(found))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def command(tmp_path: Path) -> Iterator[list[str]]:
    with fork_server(str(tmp_path)) as command:
        yield shlex.split(command)


def the_server() -> psutil.Process:
    [server] = [each for each in psutil.Process().children() if "rayfed.cluster.forkserver" in each.cmdline()]
    return server


def waiting(command: list[str], script: Path, how: str = "wait") -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen([*command, str(script), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def test_a_worker_is_forked_with_what_it_was_started_with(command: list[str], script: Path) -> None:
    folder = script.parent / "a folder"
    folder.mkdir()
    line = [*command, str(script), "one", "two words", "drei äöü"]
    done = subprocess.run(
        line, cwd=folder, env=os.environ | {"COLOUR": "grün"}, check=True, capture_output=True, text=True
    )
    about = json.loads(done.stdout)
    assert about["parent"] == the_server().pid
    assert about["group"] == about["pid"]
    assert about["arguments"] == ["one", "two words", "drei äöü"]
    assert (about["colour"], about["folder"]) == ("grün", str(folder))
    assert (about["torch"], about["ray"], about["threads"]) == (True, False, 1)
    assert about["main"] == "__main__"
    assert about["signals"] == [str(signal.SIG_DFL)] * 2


def test_a_worker_and_what_stands_for_it_end_together(command: list[str], script: Path) -> None:
    stand_in, about = waiting(command, script)
    worker = psutil.Process(about["pid"])
    stand_in.kill()
    assert_gone([worker], 10)
    stand_in.wait()

    stand_in, about = waiting(command, script)
    psutil.Process(about["pid"]).kill()
    stand_in.wait(10)
    assert the_server().children() == []


def test_a_worker_that_hangs_when_its_interpreter_has_ended_goes_with_what_stands_for_it(
    command: list[str], script: Path
) -> None:
    stand_in, about = waiting(command, script, "hang")
    worker = psutil.Process(about["pid"])
    time.sleep(2)
    assert worker.status() != psutil.STATUS_ZOMBIE
    assert stand_in.poll() is None
    stand_in.kill()
    assert_gone([worker], 10)
    stand_in.wait()


def test_a_worker_ends_when_who_started_it_has_ended(command: list[str], script: Path) -> None:
    """As when Ray's own process is killed: nobody is left to end what stands for the worker."""
    code = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    line = [sys.executable, "-c", code, *command, str(script), "wait"]
    parent = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(json.loads(parent.stdout.readline())["pid"])
    [stand_in] = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert_gone([worker, stand_in], 10)


def test_workers_outlive_the_server_and_others_start_without_it(command: list[str], script: Path) -> None:
    stand_in, about = waiting(command, script)
    server = the_server()
    assert about["parent"] == server.pid
    server.kill()
    server.wait(10)
    assert psutil.Process(about["pid"]).is_running()
    done = subprocess.run([*command, str(script), "go"], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["torch"] is False
    psutil.Process(about["pid"]).kill()
    stand_in.wait(10)


@pytest.mark.slow
def test_ray_restarts_killed_workers_with_the_server_and_without(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RAY], env=environment(), check=True, capture_output=True, text=True, timeout=200
    )
    first, second, alive, ordinary = json.loads(done.stdout.splitlines()[-1])
    assert [first["torch"], second["torch"], ordinary["torch"]] == [True, True, False]
    assert second["parent"] == first["parent"]
    assert second["pid"] != first["pid"]
    assert alive["pid"] == second["pid"]


@pytest.mark.slow
def test_nothing_outlives_a_killed_driver() -> None:
    driver = subprocess.Popen([sys.executable, "-c", RAY, "wait"], env=environment(), stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    [about] = json.loads(driver.stdout.readline())
    left = {child: child.name() for child in descendants(driver)}
    assert about["pid"] in [child.pid for child in left]
    driver.kill()
    driver.wait(10)
    try:
        assert_gone([child for child, name in left.items() if name not in RAY_AGENTS])
    finally:
        end(list(left))
