"""The Frechet distance between two sets of features (Heusel et al. 2017, eq. 6)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from rayfed.errors import counted


@dataclass(frozen=True, eq=False)
class Statistics:
    """The Gaussian that stands for a set of features."""

    mean: NDArray[np.float64]
    """[F]"""
    cov: NDArray[np.float64]
    """[F, F], divided by count - 1."""
    count: int


def statistics(features: NDArray[np.floating]) -> Statistics:
    """Mean and covariance of features [N, F], in float64 as in pytorch-fid.

    Raises ValueError when N < 2: one sample has no covariance.
    """
    if len(features) < 2:
        raise ValueError(f"no covariance of {counted(len(features), 'sample')}; at least 2 are needed")
    features = np.asarray(features, np.float64)
    return Statistics(features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False)), len(features))


@threadpool_limits.wrap(1, "blas")
def frechet_distance(a: Statistics, b: Statistics) -> float:
    """The squared distance |m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017, eq. 6); >= 0.

    With roots R R^T = C, the eigenvalues of C_a C_b are the squared singular values of R_a^T R_b, so the trace of the
    square root is their plain sum. No root is taken of the product's eigenvalues: where a covariance is rank
    deficient (N <= F) those are rounding noise, and their roots are not small. On one thread: with F = 2048 two BLAS
    threads save little on free cores, and are ten times slower on busy ones.
    """
    shift = a.mean - b.mean
    overlap = np.linalg.svd(_root(a.cov).T @ _root(b.cov), compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.trace(a.cov) + np.trace(b.cov) - 2 * overlap))


def _root(cov: NDArray[np.float64]) -> NDArray[np.float64]:
    """R [F, rank] with R R^T = cov [F, F], less the eigenvalues that are nothing but rounding."""
    values, vectors = np.linalg.eigh(cov)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    root: NDArray[np.float64] = vectors[:, kept] * np.sqrt(values[kept])
    return root
