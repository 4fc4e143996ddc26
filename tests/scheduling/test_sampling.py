"""Balanced sampling by hand and by its promises."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfed.data.partition import class_counts, fegan_engine
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.sampling import (
    balanced,
    best_channel,
    class_queues,
    proportional_fair,
    round_robin,
    uniform,
)


def test_queues_run_from_the_highest_index_to_the_lowest() -> None:
    counts = np.array([[1, 0], [2, 3], [0, 4]])
    assert class_queues(counts) == [[1, 0], [2, 1]]


def test_two_rounds_by_hand() -> None:
    """Devices: 0 (4, 0), 1 (2, 2), 2 (0, 6). Queues: class 0 [1, 0], class 1 [2, 1].

    Round 1, two devices. Counters (0, 0): the tie goes to class 0, its queue gives 1: counters (2, 2), queue [0, 1].
    Tie again: class 0 gives 0: counters (6, 2), queue [1, 0]. Group [1, 0].
    Round 2. Class 1 (2 < 6) gives 2: counters (6, 8), queue [1, 2]. Class 0 gives 1: (8, 10), queue [0, 1].
    """
    counts = np.array([[4, 0], [2, 2], [0, 6]])
    group, queues, seen = balanced(counts, 2, class_queues(counts), np.zeros(2, np.int64))
    assert (group, queues, seen.tolist()) == ([1, 0], [[1, 0], [2, 1]], [6, 2])
    group, queues, seen = balanced(counts, 2, queues, seen)
    assert (group, queues, seen.tolist()) == ([2, 1], [[0, 1], [1, 2]], [8, 10])


def test_a_class_whose_owners_are_all_drawn_gives_way_to_the_next() -> None:
    """Class 0 is owned by device 0 alone and stays the least seen: the rest come from class 1 (queue [2, 1])."""
    counts = np.array([[1, 0], [0, 50], [0, 50]])
    group, _, _ = balanced(counts, 3, class_queues(counts), np.zeros(2, np.int64))
    assert group == [0, 2, 1]


def test_devices_without_samples_fill_the_round_last() -> None:
    counts = np.array([[0, 0], [1, 0], [0, 0]])
    assert balanced(counts, 2, class_queues(counts), np.zeros(2, np.int64))[0] == [1, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 10), st.data())
def test_never_twice_always_full(seed: int, devices: int, classes: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, (devices, classes)) * (rng.random((devices, classes)) < 0.4)
    size = data.draw(st.integers(1, devices))
    queues, seen = class_queues(counts), np.zeros(classes, np.int64)
    for _ in range(5):
        group, queues, seen = balanced(counts, size, queues, seen)
        assert len(group) == len(set(group)) == size
        assert set(group) <= set(range(devices))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_balanced_sampling_sees_the_data_nearer_to_the_whole_than_random(seed: int) -> None:
    """FeGAN's figure 10: 80 devices of the engine over balanced data, C = 0.05, 40 rounds."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 600)
    counts = class_counts(labels, fegan_engine(labels, 80, 2, 600, rng), 10)
    whole = np.bincount(labels)
    queues, seen, random = class_queues(counts), np.zeros(10, np.int64), np.zeros(10, np.int64)
    balanced_kl, random_kl = [], []
    for _ in range(40):
        _, queues, seen = balanced(counts, 4, queues, seen)
        random += counts[uniform(80, 4, rng)].sum(axis=0)
        balanced_kl.append(float(kl_divergence(seen, whole)))
        random_kl.append(float(kl_divergence(random, whole)))
    assert np.mean(balanced_kl[10:]) < np.mean(random_kl[10:])


def test_uniform_is_without_replacement_and_keyed() -> None:
    group = uniform(50, 20, np.random.default_rng(1))
    assert len(set(group)) == 20
    assert group == uniform(50, 20, np.random.default_rng(1))


def test_round_robin_by_hand() -> None:
    """Five devices, two a round: it goes on where the round before ended."""
    assert [round_robin(5, 2, round) for round in (1, 2, 3, 4)] == [[0, 1], [2, 3], [4, 0], [1, 2]]
    assert round_robin(3, 3, 9) == [0, 1, 2]


@given(st.integers(1, 30), st.data())
def test_round_robin_gives_everyone_the_same_number_of_turns(devices: int, data: st.DataObject) -> None:
    """After as many rounds as there are devices each has been drawn `size` times, never twice in a round."""
    size = data.draw(st.integers(1, devices))
    groups = [round_robin(devices, size, round) for round in range(1, devices + 1)]
    assert all(len(set(group)) == size for group in groups)
    assert Counter(device for group in groups for device in group) == dict.fromkeys(range(devices), size)


def test_best_channel_by_hand() -> None:
    rates = np.array([3.0, 9.0, 1.0, 9.0, 4.0])
    assert best_channel(rates, 1) == [1]
    assert best_channel(rates, 3) == [1, 3, 4]
    assert best_channel(np.full(4, np.inf), 2) == [0, 1]


def test_proportional_fair_by_hand() -> None:
    """Rates (4, 2, 1), one device a round; averages over 10 rounds, so 9/10 of the old and 1/10 of the new.

    The never drawn come first, the fastest ahead: 0, 1, 2 leave averages (.4 * .81, .2 * .9, .1) = (.324, .18, .1).
    Round 4: 4/.324 = 12.3, 2/.18 = 11.1, 1/.1 = 10: device 0, averages (.2916 + .4, .162, .09).
    Round 5: 4/.6916 = 5.8, 2/.162 = 12.3, 1/.09 = 11.1: device 1.
    """
    rates, served = np.array([4.0, 2.0, 1.0]), np.zeros(3)
    expected = [
        ([0], [0.4, 0, 0]),
        ([1], [0.36, 0.2, 0]),
        ([2], [0.324, 0.18, 0.1]),
        ([0], [0.6916, 0.162, 0.09]),
        ([1], [0.62244, 0.3458, 0.081]),
    ]
    for group, averages in expected:
        drawn, served = proportional_fair(rates, 1, served)
        assert drawn == group
        np.testing.assert_allclose(served, averages, rtol=1e-12)


def test_proportional_fair_takes_a_device_when_its_channel_is_at_its_best() -> None:
    """Served alike, 5 bit/s each; the one at three times that beats the faster one at half of what it had."""
    group, _ = proportional_fair(np.array([15.0, 40.0]), 1, np.array([5.0, 80.0]))
    assert group == [0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 15), st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_on_fixed_channels_proportional_fair_gives_everyone_a_turn(
    devices: int, seed: int, equal: bool, data: st.DataObject
) -> None:
    """Rate over average served does not depend on the rate: all are drawn about alike, as by round robin."""
    size = data.draw(st.integers(1, devices))
    rates = np.full(devices, 7.0) if equal else np.random.default_rng(seed).uniform(1, 100, devices)
    served, turns = np.zeros(devices), Counter(dict.fromkeys(range(devices), 0))
    for round in range(1, 10 * devices + 1):
        group, served = proportional_fair(rates, size, served)
        assert len(set(group)) == size
        turns.update(group)
        if round == -(-devices // size):
            assert min(turns.values()) >= 1
    assert max(turns.values()) - min(turns.values()) <= 2
