"""A process that has imported torch, from which Ray's workers are forked: they share the memory that torch takes.

    python -m rayfed.cluster.forkserver LISTENER

It never imports ray, whose core must be loaded after a fork, and starts no thread. Each connection to LISTENER, a
socket that it inherits, is from a `forked.py` that stands for a worker. It ends with its stdin; the workers live on.
"""

import fcntl
import gc
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from rayfed.startup import without_collections

SHARED = ("torch", "rayfed.engine.trainer", "rayfed.tasks", "rayfed.models.gan", "rayfed.evaluation.evaluator")
"""The modules that are imported before workers are forked."""


@contextmanager
def fork_server(folder: str) -> Iterator[str]:
    """A fork server for the length of the block: the command that starts a worker, for Ray's `py_executable`.

    Its socket is in `folder`, which must be this user's alone. What it is asked before it has imported torch waits.
    """
    address = os.path.join(folder, "fork")
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}  # the very modules of this process
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | path | {"OMP_NUM_THREADS": "1"},  # else numpy starts threads
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C is for the driver
        )
    with server:
        try:
            yield shlex.join([sys.executable, "-SE", str(Path(__file__).with_name("forked.py")), address])
        finally:
            server.kill()


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as in all processes that Ray starts
    with without_collections():
        for module in SHARED:
            import_module(module)
    gc.freeze()
    if connection := _forked(listener):
        _work(connection)


def _forked(listener: socket.socket) -> socket.socket | None:
    """In a worker's process: the connection that it was forked for. In this one: None, when stdin has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the ended leave nothing behind
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setpgrp()  # Ray ends the whole group of a worker that has died
            listener.close()
            return connection
        connection.close()


def _work(connection: socket.socket) -> None:
    """Run the script that the connection asks for, with its environment, folder and standard streams."""
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as reader:
        request = json.loads(reader.read(int.from_bytes(head, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    connection.sendall(b"1")
    _end_with(connection.detach())  # open until the very end: an interpreter that ends closes its sockets
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["arguments"]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _end_with(connection: int) -> None:
    """Let the kernel end this process, by SIGIO, when the process at the connection's other end has ended."""
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    main()
