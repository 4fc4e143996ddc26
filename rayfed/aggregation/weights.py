"""The weights of a round's group: a function of who is asked, and for how much, never of what they reply.

So the server knows them before the request goes out; when some do not reply, it weighs those who did in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayfed.ids import ClientId
from rayfed.scheduling.load import Load

Weights = NDArray[np.floating[Any]]
"""[members], summing to 1."""
Weigh = Callable[[Sequence[ClientId], Sequence[Load]], Weights]
"""The weights of clients with these loads."""


class GroupWeights:
    """The weights of one round's group, fixed before anyone is asked."""

    def __init__(self, weigh: Weigh, loads: Mapping[ClientId, Load]) -> None:
        """`loads`: of each member of the group, in the order of the clients."""
        self._weigh = weigh
        self._loads = dict(loads)
        self.planned = self._of(list(loads)) if loads else np.empty(0)
        """Of the whole group [members]."""

    def among(self, clients: Sequence[ClientId]) -> Weights:
        """The weights of those members who replied, summing to 1 among them."""
        everyone = list(clients) == list(self._loads)
        return self.planned if everyone else self._of(clients)

    def _of(self, clients: Sequence[ClientId]) -> Weights:
        return self._weigh(clients, [self._loads[client] for client in clients])


def uniform(clients: Sequence[ClientId], loads: Sequence[Load]) -> Weights:
    """1 / P for each of P clients."""
    return np.full(len(clients), 1 / len(clients))


def by_samples(samples: NDArray[np.integer[Any]]) -> Weigh:
    """n_k / sum of the members' n_j, of all clients' samples [K] (McMahan et al. 2017)."""

    def weigh(clients: Sequence[ClientId], loads: Sequence[Load]) -> Weights:
        held = samples[list(clients)].astype(float)
        weights: Weights = held / held.sum()
        return weights

    return weigh


def by_batch(clients: Sequence[ClientId], loads: Sequence[Load]) -> Weights:
    """m_k / sum of the members' m_j, by the images of their batches (Ren et al., Algorithm 2)."""
    batches = np.array([load.batch for load in loads], dtype=float)
    weights: Weights = batches / batches.sum()
    return weights
