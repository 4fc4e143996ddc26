"""The registry of devices and what is decided from it: who takes part, and how much each does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayfed.config import Centralized, RunConfig
from rayfed.scheduling import load, sampling
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, generator

SamplerState = dict[str, Any]
"""JSON: what the sampler carries from round to round; empty for random sampling."""


class Scheduler:
    """Knows each device's class counts [K, C] and capabilities; pure but for this registry.

    Random choices are keyed by (seed, round), so a resumed run draws what the unbroken run drew.
    """

    def __init__(self, config: RunConfig, counts: NDArray[np.int64]) -> None:
        self.config = config
        self.counts = counts
        self.capabilities = load.capabilities(config.devices, config.seed)
        self._loads = self._all_loads()

    def class_counts(self) -> NDArray[np.int64]:
        """Samples per device and class [K, C]."""
        return self.counts

    def start(self) -> SamplerState:
        """The sampler's state before the first round."""
        if not self._balanced:
            return {}
        return {"queues": sampling.class_queues(self.counts), "seen": [0] * self.counts.shape[1]}

    def select(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]:
        """The round's group, in the order drawn, and the sampler's next state."""
        size = self.config.participants
        if not self._balanced:
            rng = generator(self.config.seed, round, SERVER, "sampling")
            return sampling.uniform(len(self.counts), size, rng), state
        seen = np.array(state["seen"], dtype=np.int64)
        group, queues, seen = sampling.balanced(self.counts, size, state["queues"], seen)
        return group, {"queues": queues, "seen": seen.tolist()}

    def loads(self, group: list[int]) -> list[Load]:
        """The training load of each device of a group; fixed for the run."""
        return [self._loads[k] for k in group]

    def _all_loads(self) -> list[Load]:
        method, samples = self.config.method, self.counts.sum(axis=1)
        if isinstance(method, Centralized) or method.load == "equal":
            return load.equal_load(samples, method.batch, method.iterations)
        return load.linear_load(samples, self.capabilities, method.batch, method.iterations)

    @property
    def _balanced(self) -> bool:
        return getattr(self.config.method, "sampling", "random") == "balanced"
