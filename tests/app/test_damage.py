"""State files that are gone or damaged: one line, and the run goes on."""

from pathlib import Path
from typing import Any

import pytest

from rayfed.fleet.states import StateFile
from rayfed.store import Store
from tests.app.test_resume import assert_same, begin, tree, whole
from tests.test_cli import rayfed


def everyone(rounds: int) -> dict[str, Any]:
    """A configuration of which no device is ever left out."""
    found = tree("fegan", rounds=rounds)
    return found | {"method": found["method"] | {"fraction": 1.0}, "twin": {}}


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, str, Store]:
    """A run of three rounds of five, in which all devices take part."""
    run, store = begin(tmp_path / "run", everyone(rounds=3))
    return tmp_path / "run", run, store


@pytest.fixture
def straight(tmp_path: Path) -> Store:
    """The same with five rounds from the start."""
    return begin(tmp_path / "straight", everyone(rounds=5))[1]


def file_of(folder: Path, run: str, store: Store, device: int) -> Path:
    commit = store.latest(run)
    assert commit is not None
    state = commit.devices[device]
    assert isinstance(state, StateFile)
    return folder / "rayfed-runs" / run / "states" / f"{state.name}.safetensors"


def test_a_damaged_state_ends_the_run_in_one_line_and_an_earlier_round_goes_on(three, straight):
    folder, run, store = three
    path = file_of(folder, run, store, 1)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    outcome = rayfed(folder, "resume", run, "rounds=5", "--local")
    assert (outcome.code, outcome.out) == (2, "")
    *_, notice, line = outcome.err.splitlines()
    assert line == f"rayfed: {path}: the state of a device is damaged: not what was written"
    command = f"rayfed resume {run} --round 2"
    assert notice.endswith(f"run {run} failed; its rounds up to 3 are kept: {command}")
    assert store.run(run).status == "failed"
    outcome = rayfed(folder, *command.split()[1:], "rounds=5", "--local")
    assert outcome.code == 0, outcome.err
    assert_same(whole(store), whole(straight))


def test_a_state_that_is_gone_is_told_before_anything_starts(three, straight):
    folder, run, store = three
    file_of(folder, run, store, 0).unlink()
    outcome = rayfed(folder, "resume", run, "rounds=5", "--local")
    assert (outcome.code, outcome.out) == (2, "")
    states = folder / "rayfed-runs" / run / "states"
    line = f"rayfed: run {run}: the state of 1 device (0) is gone from {states}; "
    assert outcome.err.splitlines()[-1] == f"{line}`rayfed resume {run} --round 2` goes on without"
    for round in (2, 3):
        (folder / "rayfed-runs" / run / f"samples-0000{round}.png").write_bytes(b"")
    outcome = rayfed(folder, "resume", run, "rounds=5", "--round", "2", "--local")
    assert outcome.code == 0, outcome.err
    assert_same(whole(store), whole(straight))
    pictures = {path.name for path in (folder / "rayfed-runs" / run).glob("samples-*.png")}
    assert pictures == {"samples-00002.png"}, "of the rounds that are forgotten there are none"


def test_where_every_kept_round_needs_it_the_device_begins_anew(three):
    folder, run, store = three
    states = folder / "rayfed-runs" / run / "states"
    for path in states.iterdir():
        path.unlink()
    outcome = rayfed(folder, "resume", run, "rounds=4", "--local")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].endswith(f"`rayfed resume {run} --drop-damaged-states` goes on without")
    outcome = rayfed(folder, "resume", run, "rounds=4", "--drop-damaged-states", "--local")
    assert outcome.code == 0, outcome.err
    assert "with a state that is gone or damaged: fresh ones begin in their place" in outcome.err
    commit = whole(store)[0]
    assert {float(state["generator.step"].max()) for state in commit.devices.values()} == {2.0}, "iterations of a round"


def test_a_round_that_cannot_be_restored_is_refused_and_the_later_ones_stay(three):
    folder, run, store = three
    before = store.latest(run, until=2)
    path = folder / "rayfed-runs" / run / "states" / f"{before.devices[0].name}.safetensors"
    path.unlink()
    outcome = rayfed(folder, "resume", run, "rounds=4", "--round", "2", "--local")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].endswith(f"`rayfed resume {run} --round 3` goes on without")
    assert whole(store)[0].round == 3
    assert rayfed(folder, "resume", run, "rounds=4", "--local").code == 0


def test_a_round_that_is_not_kept_is_refused(three):
    folder, run, store = three
    outcome = rayfed(folder, "resume", run, "rounds=5", "--round", "1", "--local")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == "rayfed: --round 1: is not kept; a run goes on from 2, 3"
    assert whole(store)[0].round == 3
