"""Networks and their optimizers as a workspace: loaded with a device's weights when it is that device's turn."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from rayfed.models import flat
from rayfed.models.adam import MOMENTS, Adam


class Networks:
    """Networks on one processor by name, each with its Adam."""

    def __init__(self, networks: Mapping[str, nn.Module], lr: float, betas: tuple[float, float]) -> None:
        self.networks = dict(networks)
        self.optimizers = {name: Adam(each.parameters(), lr, betas) for name, each in self.networks.items()}

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Values per tensor of each network, parameters and buffers."""
        return {name: flat.sizes(network) for name, network in self.networks.items()}

    def models(self, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The named networks, or all of them, as float32 vectors."""
        return {name: flat.module_to_vector(self.networks[name]) for name in names or self.networks}

    def load_models(self, models: Mapping[str, np.ndarray]) -> None:
        """Load the networks that `models` holds."""
        for name, vector in models.items():
            flat.vector_to_module(vector, self.networks[name])

    def optimizer_state(self, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Adam's state as plain arrays: step [1], exp_avg [n] and exp_avg_sq [n] of each network."""
        return {
            f"{name}.{key}": flat.flatten(state[key] for state in self.optimizers[name].state.values())
            for name in names or self.networks
            for key in MOMENTS
        }

    def load_optimizer_state(self, saved: Mapping[str, np.ndarray] | None, names: Sequence[str] = ()) -> None:
        """Load what `optimizer_state()` gave, whatever else is in it; None starts afresh."""
        for name in names or self.networks:
            optimizer = self.optimizers[name]
            if saved is None or not optimizer.state:
                optimizer.reset()
            if saved is not None:
                for key in MOMENTS:
                    flat.unflatten(saved[f"{name}.{key}"], [state[key] for state in optimizer.state.values()])
