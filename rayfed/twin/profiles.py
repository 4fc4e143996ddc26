"""What the profiles say of one device: its hardware, its seconds, the rounds it is away."""

import math

from rayfed.config.simulation import Profile, Twin
from rayfed.seeding import SERVER, generator


def profile_of(twin: Twin, node: int) -> Profile:
    """The profile of a device, or of SERVER."""
    return twin.server if node == SERVER else twin.devices[node % len(twin.devices)]


def away(twin: Twin, devices: int, round: int, seed: int) -> set[int]:
    """The devices out of `devices` that have dropped out in this round."""
    if not any(profile.dropout for profile in twin.devices):
        return set()
    chances = [profile_of(twin, device).dropout for device in range(devices)]
    return {k for k, chance in enumerate(chances) if chance and generator(seed, round, k, "dropout").random() < chance}


class Processor:
    """The compute of one node in one round; its jitter is drawn in the order of its computations."""

    def __init__(self, profile: Profile, compute: float, seed: int, round: int, node: int):
        self._seconds_per_flop = profile.time_factor / (profile.flops_per_s * compute)
        self._drift = math.exp(profile.drift * _walk(seed, node, round)) if profile.drift else 1.0
        self._jitter = profile.jitter
        self._rng = generator(seed, round, node, "jitter") if profile.jitter else None
        self._profiled = self._taken = 0.0

    def seconds(self, flops: int) -> float:
        """Simulated seconds of this node's next computation."""
        factor = math.exp(self._jitter * self._rng.standard_normal()) if self._rng else 1.0
        profiled = flops * self._seconds_per_flop
        self._profiled += profiled
        self._taken += profiled * self._drift * factor
        return profiled * self._drift * factor

    @property
    def slowness(self) -> float | None:
        """The seconds of all its computations so far over what its profile says; none before the first."""
        return self._taken / self._profiled if self._profiled else None


def _walk(seed: int, node: int, round: int) -> float:
    """Where a random walk of unit normal steps is in a round."""
    return float(generator(seed, 0, node, "drift").standard_normal(round).sum())
