"""A PostgreSQL of this machine's for tests: Debian's package, its own data, a free port of the loopback interface."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Of each version that is installed."""
USER = "rayfed"


@contextmanager
def server() -> Iterator[str]:
    """A server for the length of the block; the URL of its database `postgres`."""
    if not PROGRAMS:
        raise RuntimeError("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:  # as which it refuses to run
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = str(folder / "data")
    _run("initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync")
    settings = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    _run("pg_ctl", "-D", data, "-o", settings, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
    finally:
        _run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def database(server_url: str) -> str:
    """The URL of a new, empty database."""
    url, name = sa.make_url(server_url), f"test_{secrets.token_hex(6)}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def _run(program: str, *arguments: str) -> None:
    other_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    command = [*other_user, str(PROGRAMS[-1] / program), *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/", timeout=120)
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr}")
