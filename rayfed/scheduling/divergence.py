"""Class distributions and their divergence."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr


def kl_divergence(counts: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """D_KL(P || Q) in nats of class counts [..., C] against reference counts [C], each normalised (FeGAN, 3.2).

    A class that P lacks adds nothing (0 log 0 = 0); counts without any sample have no distribution and give nan;
    a class that P has and Q lacks gives inf.
    """
    p, q = np.asarray(counts, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        p = p / p.sum(axis=-1, keepdims=True)
    divergence: NDArray[np.float64] = rel_entr(p, q / q.sum()).sum(axis=-1)
    return divergence
