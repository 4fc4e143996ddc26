"""A Ray to run on: a private one on this machine's loopback interface, or a cluster that is there already."""

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path

import psutil
import ray

from rayfed.cluster.forkserver import fork_server
from rayfed.config import Ray
from rayfed.errors import UserError

MB = 2**20
PREFIX = "rayfed-ray-"


@contextmanager
def connected(config: Ray) -> Iterator[None]:
    """Ray for the length of a run; one that is up already in this process is used and left alone.

    What Ray prints, of workers that died for instance, goes to stderr: stdout is for results.
    """
    if ray.is_initialized():
        yield
        return
    with redirect_stdout(sys.stderr), _started(config):
        yield


@contextmanager
def _started(config: Ray) -> Iterator[None]:
    address = config.address or os.environ.get("RAY_ADDRESS")
    with ExitStack() as last:
        if address:
            last.callback(ray.shutdown)
            _join(address)
        else:
            folder = _new_folder()
            last.callback(shutil.rmtree, folder, ignore_errors=True)
            forks = sys.platform == "linux"
            worker = {"py_executable": last.enter_context(fork_server(folder))} if forks else None
            last.callback(ray.shutdown)
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=config.object_store_mb * MB,
                logging_level=logging.WARNING,
                runtime_env=worker,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
        yield


def _new_folder() -> str:
    """Ray's temporary folder, named after this process; those of processes that were killed are removed."""
    for old in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = old.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")


def _join(address: str) -> None:
    """Join a cluster; where nothing listens, say so at once (Ray itself would try for minutes)."""
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdecimal():
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        token = "" if isinstance(error, OSError) else ", or it wants RAY_AUTH_MODE=token and its RAY_AUTH_TOKEN"
        raise UserError(
            f"ray.address = {address!r}: no Ray cluster answers there ({reason}){token}; leave the address out for a "
            "private Ray"
        ) from None
