"""Partitions: exact identities (disjoint, whole, sorted), the paper's bounds worked by hand, determinism."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfed.data import partition
from rayfed.errors import UserError

BALANCED = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 60))
"""600 labels, 60 of each of 10 classes."""

seeds = st.integers(0, 2**32 - 1)
label_lists = st.lists(st.integers(0, 5), min_size=1, max_size=200).map(lambda xs: np.array(xs, dtype=np.int64))


def rng(seed=0):
    return np.random.default_rng(seed)


def assert_each_sample_once(parts, labels):
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


def assert_sorted_int64(parts):
    for part in parts:
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)


@given(label_lists, st.integers(1, 20), seeds)
def test_iid(labels, devices, seed):
    parts = partition.iid(labels, devices, rng(seed))
    sizes = [len(part) for part in parts]
    assert len(parts) == devices
    assert max(sizes) - min(sizes) <= 1
    assert_each_sample_once(parts, labels)
    assert_sorted_int64(parts)


def test_iid_is_shuffled():
    """Of 600 shuffled labels in two halves, each class falls into each half (a chance of 1e-17 not to)."""
    parts = partition.iid(np.sort(BALANCED), 2, rng())
    assert partition.class_counts(np.sort(BALANCED), parts, 10).min() > 0


@given(label_lists, st.integers(1, 12), st.integers(1, 8), st.integers(1, 300), seeds)
def test_fegan_engine_stays_within_the_papers_bounds(labels, devices, max_class, max_samples, seed):
    parts = partition.fegan_engine(labels, devices, max_class, max_samples, rng(seed))
    assert len(parts) == devices
    assert_sorted_int64(parts)
    sizes = np.bincount(labels, minlength=6)
    for i, counts in enumerate(partition.class_counts(labels, parts, 6), start=1):
        held = np.count_nonzero(counts)
        assert 1 <= held <= min(math.ceil(max_class * i / devices), np.count_nonzero(sizes))
        assert counts.max() <= max(1, min(i**2, math.floor(max_samples * i / devices)))
        assert np.all(counts <= sizes)


def test_fegan_engine_reaches_every_bound_and_no_further():
    """max_class 5, max_samples 100, 4 devices: classes up to 2, 3, 4, 5; samples a class up to 1, 4, 9, 16."""
    draws = [partition.fegan_engine(BALANCED, 4, 5, 100, rng(seed)) for seed in range(400)]
    counts = np.stack([partition.class_counts(BALANCED, parts, 10) for parts in draws])
    held = np.count_nonzero(counts, axis=2)
    assert held.max(axis=0).tolist() == [2, 3, 4, 5]
    assert held.min(axis=0).tolist() == [1, 1, 1, 1]
    assert counts.max(axis=(0, 2)).tolist() == [1, 4, 9, 16]
    assert set(counts[:, 3][counts[:, 3] > 0].tolist()) == set(range(1, 17))


def test_fegan_engine_is_uniform():
    """Device 4 of 4 draws U{1..5} classes, mean 3, and U{1..16} samples of each, mean 8.5 (4 standard errors)."""
    draws = [partition.fegan_engine(BALANCED, 4, 5, 100, rng(seed)) for seed in range(2000)]
    counts = np.stack([partition.class_counts(BALANCED, parts[3:], 10)[0] for parts in draws])
    held = np.count_nonzero(counts, axis=1)
    assert abs(held.mean() - 3) < 4 * math.sqrt(2 / 2000)
    samples = counts[counts > 0]
    assert abs(samples.mean() - 8.5) < 4 * math.sqrt((16**2 - 1) / 12 / len(samples))


def test_fegan_engine_lets_devices_share_samples():
    """Ten devices that may take all 3 images of the one class cannot be disjoint."""
    parts = partition.fegan_engine(np.zeros(3, np.int64), 10, 1, 1000, rng())
    assert sum(map(len, parts)) > len(partition.union(parts))


@given(st.integers(1, 30), st.integers(1, 10), seeds)
def test_n_classes(devices, per_device, seed):
    parts = partition.n_classes(BALANCED, devices, per_device, rng(seed))
    assert_sorted_int64(parts)
    counts = partition.class_counts(BALANCED, parts, 10)
    assert np.count_nonzero(counts, axis=1).tolist() == [per_device] * devices
    owners = np.count_nonzero(counts, axis=0)
    assert owners.max() - owners.min() <= 1
    assert len(np.concatenate(parts)) == len(partition.union(parts)) == 60 * np.count_nonzero(owners)
    if devices * per_device >= 10:
        assert_each_sample_once(parts, BALANCED)
    for column in counts.T:
        shares = column[column > 0]
        assert shares.size == 0 or shares.max() - shares.min() <= 1


def test_n_classes_with_more_owners_than_samples():
    with pytest.raises(UserError) as caught:
        partition.n_classes(np.array([0, 0, 1, 1]), 5, 1, rng())
    assert str(caught.value) == (
        "devices.count = 5 with data.classes_per_device = 1: 3 devices would share a class of 2 images; "
        "use fewer devices or fewer classes per device"
    )


@given(st.integers(1, 10), st.floats(0.3, 1000), seeds)
def test_dirichlet(devices, alpha, seed):
    parts = partition.dirichlet(BALANCED, devices, alpha, rng(seed))
    assert len(parts) == devices
    assert min(map(len, parts)) > 0
    assert_each_sample_once(parts, BALANCED)
    assert_sorted_int64(parts)


@settings(max_examples=30)
@given(seeds)
def test_dirichlet_with_a_large_alpha_is_even(seed):
    """The share of one of 4 devices has a standard deviation of sqrt(3/16 / (4e6 + 1)) = 0.0002: 15 of 60, +-1."""
    parts = partition.dirichlet(BALANCED, 4, 1e6, rng(seed))
    assert np.abs(partition.class_counts(BALANCED, parts, 10) - 15).max() <= 1


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    """A Dir(a, a, a, a) share has mean 1/4 and variance (1/4)(3/4) / (4a + 1); a = 0.5 gives 1/16."""
    labels = np.repeat(np.arange(10), 1000)
    draws = [partition.dirichlet(labels, 4, 0.5, rng(seed)) for seed in range(100)]
    shares = np.stack([partition.class_counts(labels, parts, 10) for parts in draws]) / 1000
    assert shares.var() == pytest.approx(1 / 16, rel=0.1)
    assert shares[:, 3].mean() == pytest.approx(1 / 4, abs=0.03)


def test_dirichlet_that_must_leave_a_device_empty():
    with pytest.raises(UserError) as caught:
        partition.dirichlet(BALANCED, 50, 0.001, rng())
    assert str(caught.value) == (
        "data.alpha = 0.001 with devices.count = 50: some device got no data in each of 100 draws; "
        "use a larger data.alpha or fewer devices"
    )


@pytest.mark.parametrize(
    "spread",
    [
        lambda generator: partition.iid(BALANCED, 7, generator),
        lambda generator: partition.fegan_engine(BALANCED, 7, 5, 100, generator),
        lambda generator: partition.n_classes(BALANCED, 7, 3, generator),
        lambda generator: partition.dirichlet(BALANCED, 7, 0.5, generator),
    ],
)
def test_a_seed_decides(spread):
    first, again, other = spread(rng(1)), spread(rng(1)), spread(rng(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_class_counts_and_union():
    labels = np.array([2, 0, 2, 1, 2])
    parts = [np.array([0, 2, 3]), np.array([1, 2])]
    counts = partition.class_counts(labels, parts, 4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[0, 1, 2, 0], [1, 0, 1, 0]]
    assert partition.union(parts).tolist() == [0, 1, 2, 3]
