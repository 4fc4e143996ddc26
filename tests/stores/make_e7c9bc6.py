"""How e7c9bc6.db was written: three runs by revision e7c9bc6, each interrupted by SIGINT after 2 of its 4 rounds.

From the repository's root:

    mkdir old && git archive e7c9bc6 | tar x -C old
    PYTHONPATH=old OMP_NUM_THREADS=1 python tests/stores/make_e7c9bc6.py tests/stores/e7c9bc6.db

It is what `rayfed run --local` writes, but for the process (host "nowhere", pid 1) and the runs' ids. For the
repository's sake the file has smaller pages than rayfed gives a store, and no write-ahead log.
"""

import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rayfed.runtime import launch

from rayfed import config

SHARED: dict[str, Any] = {
    "seed": 7,
    "rounds": 4,
    "data": {"name": "fashion-mnist-6k", "partition": "iid"},
    "model": {"name": "dcgan32", "width": 1},
    "evaluation": {"every": 0},
    "tracking": {"enabled": False},
    "store": {"keep": 1},
}
FEGAN: dict[str, Any] = {
    "method": {"name": "fegan", "iterations": 3, "batch": 8, "fraction": 0.5, "load": "linear", "moments": "fresh"},
    "devices": {"count": 6, "weak_fraction": 0.5},
    "store": {"keep": 2},
    "data": {"name": "fashion-mnist-6k", "partition": "fegan", "max_samples": 60},
    "twin": {"devices": [{"jitter": 0.2, "dropout": 0.2}]},
}
MD_GAN: dict[str, Any] = {
    "method": {"name": "md-gan", "iterations": 3, "batch": 8, "swap_epochs": 0.008},
    "devices": {"count": 3},
}
FSL_GAN: dict[str, Any] = {
    "method": {
        "name": "fsl-gan",
        "iterations": 3,
        "batch": 8,
        "clients": [
            {
                "name": client,
                "devices": [
                    {"name": "watch", "capacity": 3000, "time_factor": 2.0},
                    {"name": "phone", "capacity": 6000, "time_factor": 1.0},
                    {"name": "laptop", "capacity": 90000, "time_factor": 3.0},
                ],
            }
            for client in ("ann", "bob")
        ],
    },
    "devices": {"count": 2},
    "twin": {"devices": [{"jitter": 0.1, "drift": 0.8, "dropout": 0.3}], "network": {"kind": "lan"}},
}


class Interrupting:
    """A listener that sends SIGINT after the second round, and says nothing."""

    def notice(self, text: str) -> None: ...

    def capacity(self, capacity: object, scaling: bool) -> None: ...

    @contextmanager
    def live(self, start: int) -> Iterator[None]:
        yield

    def round(self, commit: Any) -> None:
        if commit.round == 2:
            signal.raise_signal(signal.SIGINT)

    def verdict(self, verdict: object) -> None: ...


def write_runs() -> None:
    """The three runs, into ./rayfed-runs/rayfed.db."""
    process = {"host": "nowhere", "pid": 1, "began": 0.0}
    with patch.object(launch, "process_facts", lambda: process), patch("secrets.token_hex", lambda _: "e7c9bc"):
        for run in (FEGAN, MD_GAN, FSL_GAN):
            result = launch.start(config.parse(SHARED | run), local=True, listener=Interrupting())
            assert (result.status, len(result.history)) == ("interrupted", 3)


def main(target: Path) -> None:
    """Write the runs in a folder of their own and pack their store into `target`."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_runs()
        db = sqlite3.connect("rayfed-runs/rayfed.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 1024", "VACUUM"):
            db.execute(statement)
        db.close()
        target.write_bytes(Path("rayfed-runs/rayfed.db").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
