"""One process at a time writes to a run, whoever else believes that it may."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from rayfed.errors import UserError
from rayfed.store import Commit, LeaseLostError, Store

ME, OTHER = {"host": "here", "pid": 1}, {"host": "there", "pid": 2}


@pytest.fixture
def stores(url: str) -> Iterator[tuple[Store, Store]]:
    first, second = Store(url), Store(url)
    first.create_run("run", {}, {})
    yield first, second
    first.close()
    second.close()


def commit(round: int) -> Commit:
    return Commit(round, {"w": np.full(3, round)}, {}, {}, {"x": round}, [])


def test_a_second_driver_is_refused_while_the_lease_lasts(stores: tuple[Store, Store]) -> None:
    first, second = stores
    first.take_lease("run", ME, 30)
    message = r"run run is driven by process 1 on here, whose lease lasts for another (29|30) s; stop that first"
    with pytest.raises(UserError, match=message):
        second.take_lease("run", OTHER, 30)
    assert second.run("run").holder == ME
    first.commit("run", commit(0), keep=2)


def test_who_was_taken_over_writes_nothing_any_more(stores: tuple[Store, Store]) -> None:
    first, second = stores
    first.take_lease("run", ME, 0.05)
    first.commit("run", commit(0), keep=2)
    time.sleep(0.1)
    assert first.run("run").holder is None
    first.commit("run", commit(1), keep=2)  # it has run out, but nobody has taken it
    second.take_lease("run", OTHER, 30)
    second.commit("run", commit(2), keep=2)
    for write in (
        lambda: first.commit("run", commit(2), keep=2),
        lambda: first.rewind("run", 0),
        lambda: first.set_metric("run", 1, {"late": 1.0}),
        lambda: first.set_status("run", "failed"),
        lambda: first.update_facts("run", ours=True),
        lambda: first.renew_lease("run", 30),
    ):
        with pytest.raises(LeaseLostError, match=r"run run has been taken over by process 2 on there"):
            write()
    assert second.history("run") == [(round, {"x": float(round)}, []) for round in range(3)]
    assert (second.run("run").status, second.run("run").facts) == ("running", {})
    assert second.run("run").holder == OTHER


def test_a_dead_holders_lease_is_taken_at_once(stores: tuple[Store, Store]) -> None:
    first, second = stores
    first.take_lease("run", ME, 30)
    second.take_lease("run", OTHER, 30, lambda holder: holder == ME)
    with pytest.raises(LeaseLostError):
        first.commit("run", commit(0), keep=2)


def test_a_lease_given_back_is_free(stores: tuple[Store, Store]) -> None:
    first, second = stores
    first.take_lease("run", ME, 30)
    first.renew_lease("run", 0)
    assert second.run("run").holder is None
    second.take_lease("run", OTHER, 30)


def test_a_removed_run_has_no_lease(stores: tuple[Store, Store]) -> None:
    first, _ = stores
    first.take_lease("run", ME, 30)
    first.remove("run")
    first.create_run("run", {}, {})
    assert first.run("run").holder is None
    first.commit("run", commit(0), keep=2)


DRIVER = """
import sys, numpy as np
from rayfed.store import Commit, LeaseLostError, Store
store = Store(sys.argv[1])
store.take_lease("run", {"host": "here", "pid": 1}, 0.5)
round = 0
try:
    while True:
        store.commit("run", Commit(round, {"w": np.full(3, round)}, {}, {}, {"by": 1.0}, []), keep=2)
        store.renew_lease("run", 0.5)
        print(round, flush=True)
        sys.stdin.readline()
        round += 1
except LeaseLostError as error:
    sys.exit(str(error))
"""


def test_a_paused_driver_that_wakes_after_the_take_over_cannot_commit(url: str) -> None:
    store = Store(url)
    store.create_run("run", {}, {})
    command = [sys.executable, "-c", DRIVER, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as paused:
        assert paused.stdin is not None
        assert paused.stdout is not None
        for round in range(3):
            assert paused.stdout.readline() == f"{round}\n"
            if round < 2:
                print(file=paused.stdin, flush=True)
        paused.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        store.take_lease("run", OTHER, 30)
        for round in range(3, 6):
            store.commit("run", Commit(round, {"w": np.full(3, round)}, {}, {}, {"by": 2.0}, []), keep=2)
        paused.send_signal(signal.SIGCONT)
        _, told = paused.communicate("\n", timeout=30)
    assert paused.returncode == 1
    assert "run run has been taken over by process 2 on there" in told
    assert [metrics["by"] for _, metrics, _ in store.history("run")] == [1.0] * 3 + [2.0] * 3
