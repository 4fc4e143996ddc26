"""A test split for a source that has none."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rayfed.data.images import Labels
from rayfed.errors import UserError


def held_out(labels: Labels, places: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which images are held out, bool [N]: by a fixed seed a tenth of each class, at least one image.

    `places` says for each class where it is. Raises UserError, with that, for a class of one image.
    """
    rng = np.random.default_rng(0)
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) == 1:
            raise UserError(f"{places[label]}: one image; a class needs two, as one is held out for the test")
        held[members[rng.choice(len(members), size=max(1, len(members) // 10), replace=False)]] = True
    return held
