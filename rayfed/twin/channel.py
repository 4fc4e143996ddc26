"""The wireless cell of Ren, Liu, Yu and Guo, "A New Distributed Method for Training GANs": its simulation settings."""

import math

import numpy as np
from numpy.typing import NDArray

from rayfed.seeding import generator

NEAREST_M = 1.0
"""A device is never closer to the antenna than this: the path-loss law has no meaning there."""


def path_loss_db(distance_m: float) -> float:
    """128.1 + 37.6 log10(distance in km), in dB."""
    return 128.1 + 37.6 * math.log10(max(distance_m, NEAREST_M) / 1000)


def rate(distance_m: float, bandwidth_hz: float, power_dbm: float, noise_dbm_hz: float = -174.0) -> float:
    """Shannon's bit/s over `bandwidth_hz`: bandwidth * log2(1 + SNR), with the noise of that bandwidth."""
    noise_dbm = noise_dbm_hz + 10 * math.log10(bandwidth_hz)
    snr_db = power_dbm - path_loss_db(distance_m) - noise_dbm
    return bandwidth_hz * math.log1p(10 ** (snr_db / 10)) / math.log(2)


def positions(seed: int, count: int, radius_m: float) -> NDArray[np.float64]:
    """Where the devices are, [count, 2] metres from the server, uniform in the disc; each keyed by its own number."""
    draws = np.array([generator(seed, 0, device, "position").random(2) for device in range(count)]).reshape(count, 2)
    distance, angle = radius_m * np.sqrt(draws[:, 0]), 2 * np.pi * draws[:, 1]
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
