"""A store that revision e7c9bc6 wrote is opened, migrated and resumed; see tests/stores."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from rayfed import api
from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.engine.session import LocalSession
from rayfed.engine.simulation import TOTALS
from rayfed.methods.spec import method_of
from rayfed.store import Store

pytestmark = pytest.mark.usefixtures("cache")

OLD = Path(__file__).parents[1] / "stores" / "e7c9bc6.db"
DONE, ROUNDS = 2, 4


def as_the_old_rayfed_left_it(run_id: str) -> tuple[dict[str, Any], Checkpoint, list[str]]:
    """A run's configuration, the checkpoint of its last round and the metrics of all, read without the store."""
    with sqlite3.connect(f"file:{OLD}?mode=ro", uri=True) as db:
        (config,) = db.execute("select config from runs where id = ?", (run_id,)).fetchone()
        key = run_id, DONE
        facts, arrays = db.execute("select facts, arrays from states where run_id = ? and round = ?", key).fetchone()
        states = db.execute("select device, arrays from device_states where run_id = ? order by round", (run_id,))
        devices = {device: load(blob) for device, blob in states}
        rows = db.execute("select metrics from rounds where run_id = ? order by round", (run_id,)).fetchall()
    found, tree = json.loads(facts), json.loads(config)
    spec = method_of(parse(tree))
    method = found["method"] | ({"slowness": found["slowness"]} if found["slowness"] else {})
    state = spec.state.restored(DONE, load(arrays), method)
    return tree, Checkpoint(state, tuple(found["seen"]), found["twin"], devices), [row[0] for row in rows]


@pytest.mark.parametrize("run_id", ["fegan-e7c9bc", "md-gan-e7c9bc", "fsl-gan-e7c9bc"])
def test_an_old_run_goes_on_to_its_end(run_id: str, tmp_path: Path) -> None:
    """It ends where training on from the old store's own bytes ends, and what was committed stays as it was."""
    tree, checkpoint, metrics = as_the_old_rayfed_left_it(run_id)
    config = parse(tree)
    session = LocalSession(config, prepare(config, method_of(config).task.side(config.model)))
    session.start(checkpoint)
    expected = [session.round() for _ in range(ROUNDS - DONE)][-1]

    shutil.copy(OLD, tmp_path / "rayfed.db")
    result = api.resume(run_id, runs_dir=str(tmp_path), local=True, progress=False)
    assert (result.status, [row["round"] for row in result.metrics]) == ("finished", [1, 2, 3, 4])
    store = Store(f"sqlite:///{tmp_path / 'rayfed.db'}")
    commit = store.latest(run_id)
    assert commit is not None
    assert {name: values.tobytes() for name, values in commit.arrays.items()} == {
        name: values.tobytes() for name, values in expected.state.arrays.items()
    }
    found = checkpoint_of(commit, method_of(config)).twin
    assert {name: np.array(value).tolist() if name in TOTALS else value for name, value in found.items()} == {
        name: np.array(value).tolist() if name in TOTALS else value for name, value in expected.twin.items()
    }
    assert [metrics for _, metrics, _ in store.history(run_id)][: DONE + 1] == [json.loads(each) for each in metrics]
    store.close()
