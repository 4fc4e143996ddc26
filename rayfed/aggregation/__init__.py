"""How updates become one: weights that are known before anyone is asked, then a mean."""

from rayfed.aggregation.mean import RunningMean, weighted_mean
from rayfed.aggregation.weights import GroupWeights, Weigh, by_batch, by_samples, uniform

__all__ = ["GroupWeights", "RunningMean", "Weigh", "by_batch", "by_samples", "uniform", "weighted_mean"]
