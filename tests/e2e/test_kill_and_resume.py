"""Whatever is killed, and whenever: the final weights are those of the run that nobody disturbed."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rayfed.store import Commit, Store
from tests.e2e.commands import (
    STARTED_S,
    assert_gone,
    descendants,
    kill_driver,
    rayfed,
    running,
    store_of,
    wait_for_rounds,
    wait_until,
)
from tests.states import last_commit

ROUNDS = 13
CONFIG: dict[str, Any] = {
    "seed": 3,
    "rounds": ROUNDS,
    "wire": "float32",
    "method": {"name": "fegan", "fraction": 0.5, "iterations": 20, "batch": 8, "moments": "keep"},
    "devices": {"count": 8},
    "data": {"partition": "dirichlet"},
    "model": {"name": "dcgan28", "width": 4},
    "evaluation": {"every": 0},
    "tracking": {"enabled": False},
}
TIMES = {"round_seconds", "seconds", "images_per_s", "updates_per_s", "epochs_per_s"}
Whole = tuple[Commit, list[Any], list[Any]]


def prepare(folder: Path) -> Store:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return store_of(folder)


def whole(store: Store) -> Whole:
    """The last commit of a store's one run, its history without the times, and what happened in it."""
    [record] = store.runs()
    assert record.status == "finished"
    history = [
        (round, {name: value for name, value in metrics.items() if name not in TIMES}, participants)
        for round, metrics, participants in store.history(record.id)
    ]
    assert [round for round, *_ in history] == list(range(ROUNDS + 1))
    return last_commit(store, record.id), history, store.events(record.id)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run in one process, without Ray."""
    folder = tmp_path_factory.mktemp("undisturbed")
    store = prepare(folder)
    done = rayfed(folder, "run", "config.yaml", "--local")
    assert done.returncode == 0, done.stderr
    return whole(store)


def assert_same(found: Whole, expected: Whole) -> None:
    """Weights, device moments and histories, bit for bit."""
    (commit, history, events), (reference, expected_history, expected_events) = found, expected
    assert commit.devices.keys() == reference.devices.keys() != set()
    pairs = [(commit.arrays, reference.arrays), (commit.tables, reference.tables)]
    pairs += [(commit.devices[device], reference.devices[device]) for device in commit.devices]
    for arrays, others in pairs:
        assert arrays.keys() == others.keys() != set()
        assert [name for name in arrays if arrays[name].tobytes() != others[name].tobytes()] == []
    assert commit.facts == reference.facts
    assert history == expected_history
    assert events == expected_events


@pytest.mark.long
@pytest.mark.slow
def test_a_driver_killed_three_times_leaves_no_trace_in_the_weights(tmp_path, undisturbed):
    seed = random.SystemRandom().randrange(2**32)
    print(f"moments of the kills: random.Random({seed})")
    moments, store = random.Random(seed), prepare(tmp_path)
    arguments = ["run", "config.yaml"]
    for _ in range(3):
        with running(tmp_path, *arguments) as process:
            seconds = wait_for_rounds(process, tmp_path, store, 2)
            time.sleep(moments.uniform(0, min(seconds, 1)))
            kill_driver(process)
        [record] = store.runs()
        assert (record.status, record.rounds < ROUNDS) == ("running", True)
        arguments = ["resume", record.id]
    done = rayfed(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert_same(whole(store), undisturbed)


@pytest.mark.slow
def test_ctrl_c_ends_the_round_and_says_how_to_go_on(tmp_path, undisturbed, scratch):
    """A terminal sends it to the whole process group. Resuming works from another folder too, and without Ray."""
    store = prepare(tmp_path)
    before = set(scratch.iterdir())
    with running(tmp_path, "run", "config.yaml") as process:
        wait_for_rounds(process, tmp_path, store, 2)
        children = descendants(process)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert_gone(children)
    assert set(scratch.iterdir()) == before
    [record] = store.runs()
    assert (record.status, record.rounds < ROUNDS) == ("interrupted", True)
    table = (tmp_path / "out.txt").read_text()
    assert f"{record.id} (interrupted, {record.rounds} rounds)\n" in table
    assert table.endswith(f"  rayfed resume {record.id}\n")
    assert "Traceback" not in (tmp_path / "err.txt").read_text()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = rayfed(elsewhere, "resume", record.id, "--runs-dir", "../rayfed-runs", "--local")
    assert done.returncode == 0, done.stderr
    assert f"{record.id} (finished, {ROUNDS} rounds)\n" in done.stdout
    assert_same(whole(store), undisturbed)
    assert (tmp_path / "rayfed-runs" / record.id / "run.png").exists()
    assert {path.name for path in elsewhere.iterdir()} == {"out.txt", "err.txt"}


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_device_host_is_replaced_and_its_work_done_again(tmp_path, undisturbed):
    store = prepare(tmp_path)
    with running(tmp_path, "run", "config.yaml", "--json") as process:
        seconds = wait_for_rounds(process, tmp_path, store, 2)
        time.sleep(seconds / 2)
        hosts = device_hosts(process)
        hosts[0].kill()
        wait_until(
            lambda: {host.pid for host in device_hosts(process)} > {host.pid for host in hosts[1:]}, process, tmp_path
        )
        assert process.wait(120) == 0, (tmp_path / "err.txt").read_text()
    assert json.loads((tmp_path / "out.txt").read_text())["status"] == "finished"
    found = whole(store)
    assert {metrics["dropped"] for _, metrics, _ in found[1][1:]} == {0}
    assert_same(found, undisturbed)


def device_hosts(process) -> list[psutil.Process]:
    return [child for child in descendants(process) if child.name().startswith("ray::DeviceHost")]


@pytest.mark.parametrize(
    ("override", "ask"),
    [
        ("resources.hosts=64", "at 1 CPU each"),
        pytest.param(
            "resources.device_host.memory=1000000000000000",
            "1 device_host at 1 CPU, 1e+06 GB memory each",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_can_never_fit_is_refused_in_one_line(tmp_path, override, ask):
    """At once: not after ray.wait_s."""
    prepare(tmp_path)
    start = time.monotonic()
    done = rayfed(tmp_path, "run", "config.yaml", override, "ray.wait_s=10000")
    assert time.monotonic() - start < STARTED_S
    assert (done.returncode, done.stdout) == (3, "")
    *notices, line = done.stderr.splitlines()
    assert line.startswith("rayfed: resources.device_host: no room for ")
    assert ask in line
    assert line.endswith(" on 1 node and no autoscaler; ask for less or add nodes")
    assert not any(notice.startswith(("rayfed:", "Traceback")) for notice in notices)
    assert store_of(tmp_path).runs() == []
