"""A Ray head of one's own, on ports and in a home of its own, with token authentication."""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.commands import environment

TOKEN = "0123456789abcdef" * 4
READY_S = 120
COMMAND_S = 400
"""For a command to its end on a busy machine."""


@dataclass(frozen=True)
class Head:
    """A running head."""

    address: str
    """Of the dashboard."""
    gcs: str
    home: Path

    @property
    def runs_dir(self) -> Path:
        return self.home / "rayfed-runs"

    def environment(self, **changes: str) -> dict[str, str]:
        """Of a command that has the token."""
        found = environment() | {"RAY_API_SERVER_ADDRESS": self.address, "PYTHONPATH": str(Path(__file__).parents[2])}
        return found | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN} | changes

    def start(self, folder: Path, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """`rayfed` with these arguments in a folder; its output is one text."""
        return subprocess.Popen(
            [sys.executable, "-m", "rayfed", *arguments],
            cwd=folder,
            env=self.environment(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=hears_interrupts,
        )

    def rayfed(self, folder: Path, *arguments: str, **changes: str) -> tuple[int, str]:
        """A command to its end: its exit code and what it printed."""
        process = self.start(folder, *arguments, **changes)
        out, _ = process.communicate(timeout=COMMAND_S)
        return process.returncode, out


@contextmanager
def head(cpus: int, python: str = sys.executable) -> Iterator[Head]:
    """A head with so many CPUs, whose Python is this one's or another; its processes end with it."""
    folder = Path(tempfile.mkdtemp(prefix="rf-"))  # short: a socket's path may have 107 bytes
    gcs, dashboard, *others = free_ports(7)
    names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port")
    ports = dict(zip((*names, "metrics-export-port", "ray-client-server-port"), others, strict=True))
    command = [python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
    command += [f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--num-cpus={cpus}"]
    command += ["--object-store-memory=200000000", f"--temp-dir={folder / 'r'}", "--disable-usage-stats"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    home = folder / "home"
    home.mkdir()
    own = {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    own |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    with ExitStack() as last, (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment() | own, stdout=log, stderr=log, start_new_session=True)
        last.callback(end_tree, process, str(folder))
        address = f"http://127.0.0.1:{dashboard}"
        wait_for(address, folder / "log")
        yield Head(address, f"127.0.0.1:{gcs}", home)


def hears_interrupts() -> None:
    """In a shell's background Ctrl-C is ignored, and processes inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5)
        except urllib.error.HTTPError:
            return  # it wants the token
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


def end_tree(process: subprocess.Popen[bytes], folder: str) -> None:
    """End a head and whatever it has started, drivers of jobs in sessions of their own included."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in tree:
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    for each in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in each.info["cmdline"] or ()):
            each.kill()


def free_ports(count: int) -> Sequence[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
