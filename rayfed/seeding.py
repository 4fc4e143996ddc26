"""Random numbers keyed by what they are for, never by who draws them or when.

Every draw in a run comes from a generator keyed by (seed, round, device, purpose), so neither the host that
runs a device nor the order of replies can change a weight.
"""

from zlib import crc32

import numpy as np

SERVER = -1
"""The node id of the server; devices are numbered from 0."""


def sequence(seed: int, round: int, device: int, purpose: str) -> np.random.SeedSequence:
    """The seed sequence of one (seed, round, device, purpose); `device` may be SERVER."""
    return np.random.SeedSequence([seed, round, device - SERVER, crc32(purpose.encode())])


def generator(seed: int, round: int, device: int, purpose: str) -> np.random.Generator:
    """A numpy generator for one (seed, round, device, purpose)."""
    return np.random.default_rng(sequence(seed, round, device, purpose))


def torch_seed(seed: int, round: int, device: int, purpose: str) -> int:
    """A 63-bit seed for `torch.manual_seed`, from the same key."""
    return int(sequence(seed, round, device, purpose).generate_state(1, np.uint64)[0] >> np.uint64(1))
