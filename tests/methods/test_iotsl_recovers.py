"""IoTSL against forgetting: two classes on each of five devices, on the shipped images (the paper's figure 12)."""

from typing import Any

import numpy as np
import pytest

from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.engine.session import LocalSession
from rayfed.methods.spec import method_of
from rayfed.tasks.base import EvaluationFailure as Failure

BASE: dict[str, Any] = {
    "devices": {"count": 5},
    "data": {"partition": "classes", "classes_per_device": 2},
    "model": {"name": "cnn5", "width": 8, "lr": 1e-3, "beta1": 0.9},
    "evaluation": {"every": 1},
}
IOTSL = {
    "name": "iotsl",
    "generator_rounds": 1,
    "generator_steps": 400,
    "generator_lr": 1e-3,
    "generator_width": 8,
    "critic_steps": 2,
    "pretraining_rounds": 3,
    "privacy": {"sigma": 0.0, "clip": None},
}
TUNING = 5
"""Epochs of split learning."""


def accuracies(seed: int, rounds: int, method: dict[str, Any], **data: Any) -> list[float]:
    """On the test images, after each of the last `TUNING` rounds."""
    tree = {"seed": seed, "rounds": rounds, "method": method | {"batch": 16}, "data": BASE["data"] | data}
    config = parse(BASE | tree)
    session = LocalSession(config, prepare(config, 28))
    session.start(None)
    for _ in range(rounds):
        checkpoint = session.round()
        if checkpoint.round > rounds - TUNING:
            session.evaluate(checkpoint.round, method_of(config).task.outcome(checkpoint.state.arrays))
    return [found.metrics["accuracy"] for found in session.evaluations(wait=True) if not isinstance(found, Failure)]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_split_learning_collapses_and_iotsl_recovers(seed: int) -> None:
    """Every epoch of plain split learning stays below 30%; IoTSL's is most of what split learning has on iid data."""
    plain = accuracies(seed, TUNING, {"name": "split-learning"})
    iid = accuracies(seed, TUNING, {"name": "split-learning"}, partition="iid")
    iotsl = accuracies(seed, TUNING + 5, IOTSL)
    print(f"seed {seed}: plain {plain}, iid {iid}, IoTSL {iotsl}")
    assert len(plain) == len(iid) == len(iotsl) == TUNING
    assert max(plain) < 0.3
    assert np.mean(iid) > 0.7
    assert np.mean(iotsl) > 0.5 * np.mean(iid)
