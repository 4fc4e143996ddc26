"""IoTSL against forgetting: two classes on each of five devices, on the shipped images (the paper's figure 12)."""

from pathlib import Path

import numpy as np
import pytest

from rayfed.config.comparison import load_comparison
from rayfed.data.setup import prepare
from rayfed.engine.session import LocalSession
from rayfed.methods.spec import method_of
from rayfed.tasks.base import EvaluationFailure as Failure

JOB = Path(__file__).parents[2] / "jobs/figures/iotsl-12-classes.yaml"
LAST = 4
"""Rounds that are judged: IoTSL's epochs of fine-tuning."""


def accuracies(run: str, seed: int, *overrides: str) -> list[float]:
    """On the test images, after each of the last rounds."""
    config = load_comparison(JOB, list(overrides)).configs()[run][seed]
    session = LocalSession(config, prepare(config, 28))
    session.start(None)
    for _ in range(config.rounds):
        checkpoint = session.round()
        if checkpoint.round > config.rounds - LAST:
            session.evaluate(checkpoint.round, method_of(config).task.outcome(checkpoint.state.arrays))
    return [found.metrics["accuracy"] for found in session.evaluations(wait=True) if not isinstance(found, Failure)]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_split_learning_collapses_and_iotsl_recovers(seed: int) -> None:
    """Every epoch of plain split learning stays below 30%; IoTSL's is most of what split learning has on iid data."""
    plain = accuracies("split learning", seed)
    iid = accuracies("split learning", seed, "data.partition=iid")
    in_turn, at_once = accuracies("IoTSL", seed), accuracies("IoTSL, SplitFed", seed)
    print(f"seed {seed}: plain {plain}, iid {iid}, IoTSL {in_turn}, with SplitFed {at_once}")
    assert len(plain) == len(iid) == len(in_turn) == len(at_once) == LAST
    assert max(plain) < 0.3
    assert np.mean(iid) > 0.7
    assert np.mean(in_turn) > 0.5 * np.mean(iid)
    assert np.mean(at_once) > 0.75 * np.mean(iid)
