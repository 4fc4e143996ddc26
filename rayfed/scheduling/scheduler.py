"""The registry of clients and what is decided from it: who takes part, and how much each does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayfed.config import RunConfig
from rayfed.ids import ClientId
from rayfed.scheduling import load, sampling
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, generator
from rayfed.twin.network import Network
from rayfed.twin.profiles import away

UNLIMITED_BPS = 1e15
"""What counts as the rate of a link without limit (a LAN's), so that it can be averaged."""

SamplerState = dict[str, Any]
"""What the sampler carries from round to round, JSON and arrays; empty for those that carry nothing."""


class Scheduler:
    """Knows each client's class counts [K, C], load and link; pure but for this registry.

    Random choices are keyed by (seed, round), so a resumed run draws what the unbroken run drew. A method that decides
    more has a scheduler of its own that derives from this one. On Ray the server half has but its `config` and its
    methods, each of which is a call to an actor: all else is private.
    """

    def __init__(self, config: RunConfig, counts: NDArray[np.int64]) -> None:
        self.config = config
        self._counts = counts
        self._loads = self._all_loads()
        rates = Network(config.twin, len(counts), config.seed).rates(config.participants)
        self._rates = np.minimum(rates, UNLIMITED_BPS)

    def class_counts(self) -> NDArray[np.int64]:
        """Samples per client and class [K, C]."""
        return self._counts

    def start(self) -> SamplerState:
        """The sampler's state before the first round."""
        match self.config.method.selection:
            case "balanced":
                classes = self._counts.shape[1]
                return {"turns": [0] * classes, "seen": [0] * classes}
            case "proportional-fair":
                return {"served": np.zeros(len(self._counts))}
        return {}

    def select(self, round: int, state: SamplerState) -> tuple[list[ClientId], SamplerState]:
        """The round's group, in the order drawn, and the sampler's next state.

        A client whose device the twin's profile has drop out of this round is drawn, and left out.
        """
        group, state = self._draw(round, state)
        missing = away(self.config.twin, len(self._counts), round, self.config.seed)
        return [ClientId(client) for client in group if client not in missing], state

    def _draw(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]:
        devices, size = len(self._counts), self.config.participants
        match self.config.method.selection:
            case "all":
                return list(range(devices)), state
            case "balanced":
                begun, seen = sampling.class_queues(self._counts), np.array(state["seen"], dtype=np.int64)
                # what older runs have committed are the queues themselves
                queues = state["queues"] if "queues" in state else sampling.turned(begun, state["turns"])
                group, queues, seen = sampling.balanced(self._counts, size, queues, seen)
                return group, {"turns": sampling.turns_of(begun, queues), "seen": seen.tolist()}
            case "round-robin":
                return sampling.round_robin(devices, size, round), state
            case "best-channel":
                return sampling.best_channel(self._rates, size), state
            case "proportional-fair":
                group, served = sampling.proportional_fair(self._rates, size, np.array(state["served"]))
                return group, {"served": served}
        return sampling.uniform(devices, size, generator(self.config.seed, round, SERVER, "sampling")), state

    def loads(self, group: Sequence[ClientId]) -> list[Load]:
        """The training load of each client of a group; fixed for the run."""
        return [self._loads[k] for k in group]

    def _all_loads(self) -> list[Load]:
        method, samples = self.config.method, self._counts.sum(axis=1)
        if method.sizing == "linear":
            capabilities = load.capabilities(self.config.devices, self.config.seed)
            return load.linear_load(samples, capabilities, method.batch, method.local_steps)
        return load.equal_load(samples, method.batch, method.local_steps)
