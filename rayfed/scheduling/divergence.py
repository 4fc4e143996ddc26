"""Class distributions and their divergence."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kl_divergence(counts: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """D_KL(P || Q) in nats of class counts [..., C] against reference counts [C], each normalised (FeGAN, 3.2).

    A class that P lacks adds nothing (0 log 0 = 0); counts without any sample have no distribution and give nan;
    a class that P has and Q lacks gives inf.
    """
    p, q = np.asarray(counts, np.float64), np.asarray(reference, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = p / p.sum(axis=-1, keepdims=True)
        terms = np.where(p > 0, p * np.log(p / (q / q.sum())), 0.0)
        return np.where(np.isnan(p).any(axis=-1), np.nan, terms.sum(axis=-1))
