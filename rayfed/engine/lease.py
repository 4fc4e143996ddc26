"""Which process drives a run, so that a second one does not, and a killed run is known for one."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from rayfed.errors import UserError
from rayfed.store import Holder, LeaseLostError, Store

LEASE_S = 10.0
"""How long a lease lasts without a sign of life."""
BEATS = 4
"""Signs of life in that time."""


@contextmanager
def driving(store: Store, run_id: str) -> Iterator[None]:
    """Hold a run's lease for the length of the block, and renew it beside the work.

    Raises UserError if another process that may live holds it. A driver that loses its lease hears of it at its next
    write.
    """
    store.take_lease(run_id, process_facts(), LEASE_S, is_dead)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, run_id, ended), name="lease", daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        _renew(store, run_id, 0)


def is_driven(holder: Holder | None) -> bool:
    """Whether a run, of this lease's holder, is driven by a process that may live."""
    return holder is not None and not is_dead(holder)


def process_facts() -> Holder:
    """What a lease knows this process by."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": psutil.Process().create_time()}


def is_dead(holder: Holder) -> bool:
    """Whether a process was of this machine and is gone; of other machines' nobody here knows."""
    return bool(holder["host"] == socket.gethostname()) and not _runs(holder)


def _beat(store: Store, run_id: str, ended: threading.Event) -> None:
    while not ended.wait(LEASE_S / BEATS) and _renew(store, run_id, LEASE_S):
        pass


def _renew(store: Store, run_id: str, seconds: float) -> bool:
    """Whether the lease is still this store's, as far as the database can be asked."""
    try:
        store.renew_lease(run_id, seconds)
    except LeaseLostError:
        return False
    except UserError:
        return True
    return True


def _runs(holder: Holder) -> bool:
    pid = holder["pid"]
    return bool(psutil.pid_exists(pid) and abs(psutil.Process(pid).create_time() - holder["began"]) < 1)
