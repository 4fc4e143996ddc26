"""kill -9 at seeded moments of a round, those between a state's file and the transaction that names it among them."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from rayfed.store import Store
from tests.app.kills import KILLS, ROUNDS
from tests.states import last_commit


@pytest.mark.long
@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_ends_as_one_that_nobody_disturbed(tmp_path: Path) -> None:
    """Its weights, its devices' states and its history are the same bit for bit, and no file is left over."""
    seed = random.SystemRandom().randrange(2**32)
    command = [sys.executable, "-m", "tests.app.kills", str(tmp_path), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == KILLS
    found = []
    for name in ("undisturbed", "disturbed"):
        store = Store(f"sqlite:///{tmp_path / name / 'rayfed.db'}")
        [record] = store.runs()
        commit = last_commit(store, record.id)
        states = tmp_path / name / record.id / "states"
        assert {path.name for path in states.iterdir()} == {f"{file}.safetensors" for file in store.files(record.id)}
        losses = [(round, metrics["loss_d"]) for round, metrics, _ in store.history(record.id) if round]
        found.append((record.status, commit, losses))
    (status, one, losses), (_, other, expected) = found
    assert (status, one.round, losses) == ("finished", ROUNDS, expected)
    assert one.facts == other.facts
    pairs = [(one.arrays, other.arrays), (one.tables, other.tables)]
    pairs += [(one.devices[device], other.devices[device]) for device in other.devices]
    assert len(one.devices) == len(other.devices) >= 4
    for arrays, same in pairs:
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: array.tobytes() for name, array in same.items()
        }
