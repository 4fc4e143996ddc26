"""A worker of Ray that the fork server starts, or, where none answers, that starts as workers do without one.

    python -SE forked.py SOCKET SCRIPT ARGUMENT ...

This process stands for the forked one: it ends when that ends, or when its parent has ended, and that ends with it. It
imports no more than it needs, for there is one beside each worker.
"""

import json
import os
import select
import socket
import sys

LOOK_S = 1.0
"""Seconds between two looks at whether the parent is still there."""


def main() -> None:
    address, *arguments = sys.argv[1:]
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as connection:
        if _is_forked(connection, address, arguments):
            while os.getppid() == parent and not select.select([connection], [], [], LOOK_S)[0]:
                pass
            return
    os.execv(sys.executable, [sys.executable, *arguments])


def _is_forked(connection: socket.socket, address: str, arguments: list[str]) -> bool:
    """Ask for a worker; whether there is one."""
    request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    body = json.dumps(request).encode()
    try:
        connection.connect(address)
        socket.send_fds(connection, [len(body).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(body)
        return connection.recv(1) != b""
    except OSError:
        return False


if __name__ == "__main__":
    main()
