"""A run of any method that goes on from the store ends with the bits, and the simulated time, of an unbroken one."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayfed.config import parse
from rayfed.data.setup import Federation, prepare
from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.engine.session import LocalSession
from rayfed.plugins import methods
from rayfed.store import Store

CLIENT = {"name": "c", "devices": [{"name": f"{i}", "capacity": 4_000, "time_factor": 1.0 + i} for i in range(3)]}
SPREAD = {"devices": {"count": 4}, "data": {"partition": "iid"}}
METHODS: dict[str, dict[str, Any]] = {
    "fegan": {"fraction": 0.5},
    "fl-vanilla": {"fraction": 0.5, "sampling": "proportional-fair"},
    "fedgan": {"fraction": 0.5, "sampling": "round-robin"},
    "ren serial": {"fraction": 0.75},
    "ren parallel": {"fraction": 0.75, "schedule": "parallel"},
    "md-gan": {"swap_epochs": 0.05},
    "f2u": {},
    "f2a": {},
    "asyn-dgan": {},
    "fsl-gan": {"clients": [CLIENT] * 4, "micro_batches": 2},
    "centralized": {},
    "split-learning": {},
    "splitfed": {},
    "fedavg": {"fraction": 0.5},
    "centralized-classifier": {},
}
CLASSIFIERS = ("split-learning", "splitfed", "fedavg", "centralized-classifier")


def session(label: str) -> LocalSession:
    config = parse(
        {
            "seed": 6,
            "method": {"name": label.split()[0], "batch": 4, "iterations": 2, **METHODS[label]},
            **SPREAD,
            "model": {"name": "cnn5" if label in CLASSIFIERS else "dcgan28", "width": 4},
            "evaluation": {"every": 0},
            "twin": {"network": {"kind": "lan"}, "devices": [{"jitter": 0.3, "dropout": 0.1}]},
        }
    )
    return LocalSession(config, federation())


@cache
def federation() -> Federation:
    """Of every method alike: the data and its partition depend on the seed and the devices alone."""
    return prepare(parse({"seed": 6, "method": {"name": "centralized"}, **SPREAD}), 28)


@pytest.mark.parametrize("label", list(METHODS))
def test_a_resumed_run_equals_an_unbroken_one(label: str, tmp_path: Path) -> None:
    unbroken = session(label)
    unbroken.start(None)
    expected = [unbroken.round() for _ in range(4)]

    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.create_run("run", {}, {})
    before = session(label)
    store.commit("run", before.start(None).commit(), keep=2)
    found = []
    for _ in range(2):
        found.append(before.round())
        store.commit("run", found[-1].commit(), keep=2)
    after = session(label)
    after.start(checkpoint_of(store.latest("run"), methods()[label.split()[0]]))
    found += [after.round() for _ in range(2)]

    assert_same(expected[-1], found[-1])
    assert [each.events for each in expected] == [each.events for each in found]


def assert_same(expected: Checkpoint, found: Checkpoint) -> None:
    for name, vector in expected.state.arrays.items():
        np.testing.assert_array_equal(vector, found.state.arrays[name], err_msg=name)
    measured = {"round_seconds": 0.0}
    assert expected.metrics | measured == found.metrics | measured
    assert expected.commit().facts == found.commit().facts
