"""KL divergence against scipy and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from rayfed.scheduling.divergence import kl_divergence


def test_by_hand() -> None:
    """P = (1/2, 1/2, 0), Q = (1/4, 1/4, 1/2): 2 * 1/2 * log 2 = log 2."""
    assert kl_divergence([5, 5, 0], [10, 10, 20]) == pytest.approx(math.log(2))


@given(arrays(np.int64, (4, 6), elements=st.integers(0, 50)), arrays(np.int64, 6, elements=st.integers(1, 50)))
def test_equals_scipy_row_by_row(counts: np.ndarray, reference: np.ndarray) -> None:
    ours = kl_divergence(counts, reference)
    for row, value in zip(counts, ours, strict=True):
        expected = entropy(row, reference) if row.sum() else math.nan
        np.testing.assert_allclose(value, expected, atol=1e-12)


def test_a_class_that_the_reference_lacks_is_infinitely_far() -> None:
    assert kl_divergence([1, 1], [1, 0]) == math.inf
