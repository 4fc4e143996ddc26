"""The evaluator of a GAN: what it draws without judging is what it draws when it judges."""

import numpy as np
import pytest

from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.methods.spec import method_of
from rayfed.models.gan import gan_of
from rayfed.tasks.base import judged
from rayfed.tasks.gan.evaluator import GanEvaluator
from tests.test_cli import TINY


@pytest.mark.parametrize("method", ["centralized", "asyn-dgan"])
@pytest.mark.parametrize("samples", [10, 300])
def test_the_initial_state_is_drawn_as_later_ones_are_and_not_judged(method, samples, tmp_path, monkeypatch):
    """asyn-dgan's generator is conditional."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    section = {"name": method, "batch": 4}
    config = parse(TINY | {"method": section, "evaluation": {"extractor": "classifier", "samples": samples}})
    data = prepare(config, 28).evaluation_data._replace(train_images=np.zeros((20, 1, 28, 28), np.uint8))
    data = data._replace(train_labels=data.train_labels[:20])
    gan = gan_of(config, 1, data.classes)
    gan.initialise(0)
    evaluator, outcome = GanEvaluator(config, data), method_of(config).task.outcome(gan.models())
    initial, first = (judged(evaluator, round, outcome) for round in (0, 1))
    assert (initial.round, initial.metrics, initial.warnings) == (0, {}, ())
    assert (first.round, first.metrics.keys()) == (1, {"fid_classifier"})
    assert initial.pictures.keys() == first.pictures.keys() == {"samples"}
    np.testing.assert_array_equal(initial.pictures["samples"], first.pictures["samples"])
