"""A run whose lease another process takes: its first driver stops and leaves everything to the second."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

import rayfed
from rayfed.config import parse
from rayfed.errors import UserError
from rayfed.store import LeaseLostError, Store
from tests.test_cli import TINY

OTHER = {"host": "another-machine.invalid", "pid": 2}


class TakenOver(rayfed.Callback):
    """Another process takes the run over after its first round."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rounds: list[int] = []

    def on_round(self, checkpoint: Any) -> None:
        self.rounds.append(checkpoint.round)
        if checkpoint.round == 1:
            [record] = self.store.runs()
            self.store.take_lease(record.id, OTHER, 30, lambda holder: True)


def test_a_driver_that_was_taken_over_commits_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    config = parse(TINY | {"rounds": 3, "evaluation": {"every": 0}, "tracking": {"enabled": True}})
    folder, alone = tmp_path / "runs", tmp_path / "alone"
    store = Store(f"sqlite:///{folder / 'rayfed.db'}")
    ear = TakenOver(store)
    with pytest.raises(LeaseLostError, match=r"has been taken over by process 2 on another-machine\.invalid"):
        rayfed.run(config, local=True, progress=False, runs_dir=str(folder), callbacks=[ear])
    assert ear.rounds == [1]
    [record] = store.runs()
    assert (record.status, record.rounds, record.holder) == ("running", 1, OTHER)
    mlflow = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    assert mlflow.get_run(record.facts["mlflow_run"]).info.status == "RUNNING"
    with pytest.raises(UserError, match=r"is still running in process 2 on another-machine\.invalid"):
        rayfed.resume(record.id, runs_dir=str(folder), local=True, progress=False)
    store.renew_lease(record.id, 0)
    assert rayfed.resume(record.id, runs_dir=str(folder), local=True, progress=False).status == "finished"
    assert mlflow.get_run(record.facts["mlflow_run"]).info.status == "FINISHED"
    assert [round for round, _, _ in store.history(record.id)] == [0, 1, 2, 3]
    undisturbed = rayfed.run(config, local=True, progress=False, runs_dir=str(alone))
    expected = Store(f"sqlite:///{alone / 'rayfed.db'}").latest(undisturbed.run_id)
    found = store.latest(record.id)
    assert expected is not None
    assert found is not None
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
