"""The Frechet distance against hand-worked Gaussians and against scipy's matrix square root."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from rayfed.evaluation.fid import Statistics, frechet_distance, statistics


def gaussian(mean, variances):
    return Statistics(np.array(mean, float), np.diag(np.array(variances, float)), 100)


def features(count, width, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) + rng.standard_normal(width)


def by_matrix_square_root(a, b):
    """Heusel et al. 2017, eq. 6, as it is written."""
    root = sqrtm(a.cov @ b.cov)
    return np.square(a.mean - b.mean).sum() + np.trace(a.cov + b.cov - 2 * root.real)


def test_statistics_are_numpys_in_float64():
    x = features(50, 6, seed=0).astype(np.float32)
    got = statistics(x)
    assert got.mean.dtype == got.cov.dtype == np.float64
    assert got.count == 50
    centred = x.astype(np.float64) - x.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(got.mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.cov, centred.T @ centred / 49, rtol=1e-12)


def test_statistics_of_one_feature_by_hand():
    got = statistics(np.array([[1.0], [2.0], [6.0]]))
    assert (got.mean.tolist(), got.cov.tolist()) == ([3.0], [[7.0]])  # (4 + 1 + 9) / 2


def test_one_sample_has_no_statistics():
    with pytest.raises(ValueError, match="at least 2"):
        statistics(np.zeros((1, 4)))


def test_one_dimension_by_hand():
    # (m - m')^2 + (s - s')^2 with m, s = 1, 3 and 4, 5
    assert frechet_distance(gaussian([1], [9]), gaussian([4], [25])) == pytest.approx(9 + 4, rel=1e-12)


def test_diagonal_by_hand():
    a, b = gaussian([0, 1, 2], [1, 4, 0]), gaussian([0, 3, 2], [16, 9, 25])
    assert frechet_distance(a, b) == pytest.approx(4 + (1 - 4) ** 2 + (2 - 3) ** 2 + (0 - 5) ** 2, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_full_rank_against_scipy(seed):
    a, b = statistics(features(500, 40, seed)), statistics(features(400, 40, seed + 10))
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-8)


@pytest.mark.parametrize("counts", [(10, 500), (500, 10), (10, 12)])
def test_rank_deficient_against_scipy(counts):
    a, b = (statistics(features(count, 40, seed)) for seed, count in enumerate(counts))
    # scipy takes roots of the rounding noise in the null space: it is the looser of the two here
    assert frechet_distance(a, b) == pytest.approx(by_matrix_square_root(a, b), rel=1e-4)


def test_rank_deficient_by_hand():
    # all variance along one axis, 30 of 31 eigenvalues zero: (2 - 5)^2, in any rotation
    axis = features(1, 31, seed=3)[0]
    axis /= np.linalg.norm(axis)
    a, b = (Statistics(np.zeros(31), np.outer(axis, axis) * v, 2) for v in (4, 25))
    assert frechet_distance(a, b) == pytest.approx(9, rel=1e-12)


@pytest.mark.parametrize("count", [10, 500])
def test_zero_for_the_same_set(count):
    a = statistics(features(count, 40, seed=4))
    assert 0 <= frechet_distance(a, a) < 1e-11 * np.trace(a.cov)


def test_symmetric():
    a, b = statistics(features(300, 40, seed=5)), statistics(features(20, 40, seed=6))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
