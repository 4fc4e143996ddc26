"""The methods by name. Adding one is adding its file, a line here and its section in `rayfed.config`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayfed.algorithms import centralized, fedavg_gan, fegan
from rayfed.algorithms.common import Site
from rayfed.config import RunConfig
from rayfed.fleet.protocol import Arrays


@dataclass(frozen=True)
class Method:
    """The two halves of a method and what `rayfed methods` says of it."""

    server: type
    device: type
    about: str


METHODS = {
    "fegan": Method(fegan.Server, fegan.Device, "FeGAN: balanced sampling and KL weighting (Guerraoui et al. 2020)"),
    "fl-vanilla": Method(fedavg_gan.Server, fegan.Device, "FedAvg of G and D, plain mean (FeGAN's baseline)"),
    "fedgan": Method(fedavg_gan.FedGanServer, fegan.Device, "FedAvg of G and D weighted by samples (Rasouli et al.)"),
    "centralized": Method(centralized.Server, fegan.Device, "all data in one place: the reference"),
}


def device_builder(
    config: RunConfig, images: np.ndarray, parts: Sequence[np.ndarray], processor: str = "cpu"
) -> Callable[[int, Arrays], Any]:
    """What `rayfed.fleet.host.Host` builds device halves with, on one workspace of this process."""
    site = Site(config, images.shape[1], images, parts, processor)
    device = METHODS[config.method.name].device
    return lambda number, state: device(number, site, state)
