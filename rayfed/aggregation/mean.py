"""The weighted mean of updates, where a robust or a secure one would stand."""

from collections.abc import Iterable

import numpy as np

from rayfed.aggregation.weights import Weights
from rayfed.fleet.codec import Vector


def weighted_mean(updates: Iterable[Vector], weights: Weights, length: int) -> Vector:
    """The sum of weight times update, float32 [length], added up in the order given; updates may be read lazily."""
    total, scaled = np.zeros(length, np.float32), np.empty(length, np.float32)
    for update, weight in zip(updates, weights.astype(np.float32), strict=True):
        total += np.multiply(update, weight, out=scaled)
    return total
