"""The weighted mean of updates, where a robust or a secure one would stand."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rayfed.aggregation.weights import Weights
from rayfed.fleet.codec import Vector


class RunningMean:
    """The sum of weight times update so far, float32 [length]: updates are added one by one and not kept."""

    def __init__(self, length: int) -> None:
        self.total = np.zeros(length, np.float32)
        self._scaled = np.empty(length, np.float32)

    def add(self, update: Vector, weight: float | np.floating[Any]) -> None:
        """One more update [length]."""
        self.total += np.multiply(update, np.float32(weight), out=self._scaled)


def weighted_mean(updates: Iterable[Vector], weights: Weights, length: int) -> Vector:
    """The sum of weight times update, float32 [length], added up in the order given; updates may be read lazily."""
    mean = RunningMean(length)
    for update, weight in zip(updates, weights, strict=True):
        mean.add(update, weight)
    return mean.total
