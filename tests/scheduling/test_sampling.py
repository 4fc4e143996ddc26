"""Balanced sampling by hand and by its promises."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfed.data.partition import class_counts, fegan_engine
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.sampling import balanced, class_queues, uniform


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
