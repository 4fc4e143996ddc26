"""Weights by hand, known before anyone replies, and the mean that they make."""

from collections.abc import Sequence

import numpy as np
import pytest

from rayfed.aggregation import GroupWeights, by_batch, by_samples, uniform, weighted_mean
from rayfed.ids import ClientId
from rayfed.scheduling.load import Load

SAMPLES = np.array([10, 30, 0, 60, 5])
"""Of five clients."""
LOADS = {4: Load(8, 1), 1: Load(2, 9), 3: Load(6, 2)}
"""A group that is not in order."""


def test_weights_of_samples_by_hand() -> None:
    """Clients 4, 1 and 3 have 5, 30 and 60 of 95 samples, whatever their loads."""
    found = by_samples(SAMPLES)(list(LOADS), list(LOADS.values()))
    np.testing.assert_allclose(found, [5 / 95, 30 / 95, 60 / 95], rtol=1e-15)


def test_weights_of_batches_by_hand() -> None:
    """Batches of 8, 2 and 6 of 16 images, however many of them."""
    assert by_batch(list(LOADS), list(LOADS.values())).tolist() == [8 / 16, 2 / 16, 6 / 16]


def test_uniform_weights_by_hand() -> None:
    assert uniform(list(LOADS), list(LOADS.values())).tolist() == [1 / 3] * 3


def test_when_everyone_replied_the_weights_are_those_planned() -> None:
    """They are worked out once, for the whole group, before anyone is asked."""
    asked: list[list[ClientId]] = []

    def counted(clients: Sequence[ClientId], loads: Sequence[Load]) -> np.ndarray:
        asked.append(list(clients))
        return by_batch(clients, loads)

    weights = GroupWeights(counted, LOADS)
    assert asked == [[4, 1, 3]]
    assert weights.planned.tolist() == [0.5, 0.125, 0.375]
    assert weights.among([4, 1, 3]).tolist() == [0.5, 0.125, 0.375]
    assert asked == [[4, 1, 3]]


@pytest.mark.parametrize(
    ("clients", "batches", "samples"),
    [
        ([4, 3], [8 / 14, 6 / 14], [5 / 65, 60 / 65]),
        ([1, 3], [2 / 8, 6 / 8], [30 / 90, 60 / 90]),
        ([1], [1.0], [1.0]),
        ([3, 4, 1], [6 / 16, 8 / 16, 2 / 16], [60 / 95, 5 / 95, 30 / 95]),  # everyone, in another order
    ],
)
def test_those_who_replied_share_the_weight(clients: list[int], batches: list[float], samples: list[float]) -> None:
    np.testing.assert_allclose(GroupWeights(by_batch, LOADS).among(clients), batches, rtol=1e-15)
    np.testing.assert_allclose(GroupWeights(by_samples(SAMPLES), LOADS).among(clients), samples, rtol=1e-15)


def test_an_empty_group_has_no_weights() -> None:
    """Dropouts can leave a round without anyone."""
    weights = GroupWeights(by_batch, {})
    assert weights.planned.size == 0
    assert weights.among([]).size == 0


def test_the_weighted_mean_by_hand() -> None:
    updates = [np.array([1, -2], np.float32), np.array([5, 6], np.float32), np.array([0, 8], np.float32)]
    found = weighted_mean(updates, np.array([0.5, 0.25, 0.25]), 2)
    assert found.tolist() == [1.75, 2.5]
    assert found.dtype == np.float32
    assert [update.tolist() for update in updates] == [[1, -2], [5, 6], [0, 8]], "updates stay as they are"


def test_updates_are_added_up_in_the_order_given() -> None:
    """In float32 2**25 + 1 is 2**25: what is left of three numbers depends on which come first."""
    large, one = np.array([2**25], np.float32), np.array([1], np.float32)
    weights = np.ones(3)
    assert weighted_mean([large, one, -large], weights, 1).tolist() == [0]
    assert weighted_mean([large, -large, one], weights, 1).tolist() == [1]


def test_updates_may_come_one_by_one() -> None:
    """Only one of them is there at a time."""
    made: list[int] = []

    def updates():
        for value in (1, 2, 3):
            made.append(value)
            yield np.full(2, value, np.float32)

    assert weighted_mean(updates(), np.array([0.5, 0.25, 0.25]), 2).tolist() == [1.75, 1.75]
    assert made == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 3])
def test_a_weight_for_each_update_and_an_update_for_each_weight(count: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        weighted_mean([np.ones(2, np.float32)] * count, np.full(2, 0.5), 2)
