"""What the methods share: the state of a run, a process's workspace, a round of local training, the mean."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rayfed.config import FederatedTraining, RunConfig
from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.protocol import Fleet, Missing, QuorumError
from rayfed.models.gan import GAN
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import SamplerState
from rayfed.seeding import SERVER, generator


@dataclass(frozen=True)
class State:
    """The server's learning state after `round` rounds: float32 vectors by name, and JSON facts."""

    round: int
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Update:
    """A device's reply: its models, the load it carried, its mean losses, and which device it is."""

    device: int
    models: Packed
    load: Load
    loss_g: float
    loss_d: float


class Scheduler(Protocol):
    """What an algorithm asks of the scheduler; see `rayfed.scheduling.scheduler`."""

    def start(self) -> SamplerState: ...
    def select(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]: ...
    def loads(self, group: list[int]) -> list[Load]: ...
    def class_counts(self) -> np.ndarray: ...


NO_IMAGES = np.empty((0, 0, 0, 0), np.uint8)
"""What a site holds where no devices run."""


class Site:
    """One process's workspace: the networks, the wire's codec and, where devices run, the data.

    `images` uint8 [N, C, H, W] is shared by all devices; `parts` gives each device's indices into it.
    """

    def __init__(
        self,
        config: RunConfig,
        channels: int,
        images: np.ndarray = NO_IMAGES,
        parts: Sequence[np.ndarray] = (),
        device: str = "cpu",
    ) -> None:
        self.config = config
        self.gan = GAN(config.model, channels, device)
        self.codec = Codec(config.wire, self.gan.sizes)
        self.images = images
        self.parts = parts

    def samples(self, device: int) -> np.ndarray:
        """The indices a device holds; the SERVER of the centralised reference holds all."""
        return np.unique(np.concatenate(self.parts)) if device == SERVER else self.parts[device]

    def batches(self, device: int, load: Load, round: int) -> Iterator[np.ndarray]:
        """The round's batches, uint8 [B, C, H, W]: the device's data shuffled, and again when it runs out."""
        rng = generator(self.config.seed, round, device, "batches")
        samples, order = self.samples(device), np.empty(0, np.int64)
        for _ in range(load.iterations):
            while len(order) < load.batch:
                order = np.concatenate((order, rng.permutation(samples)))
            batch, order = order[: load.batch], order[load.batch :]
            yield self.images[batch]


def train_group(
    fleet: Fleet, site: Site, round: int, models: dict[str, np.ndarray], group: Sequence[int], loads: Sequence[Load]
) -> list[Update]:
    """Send the models to a group, let each member `train`, and give the valid updates in device order.

    Empty when fewer than the quorum replied: the round is abandoned.
    """
    handle = fleet.share(site.codec.encode(models))
    futures = [
        fleet.submit(device, "train", handle, load, round, cost=load.images)
        for device, load in sorted(zip(group, loads, strict=True), key=lambda pair: pair[0])
    ]
    method = site.config.method
    deadline, quorum = (method.deadline_s, method.quorum) if isinstance(method, FederatedTraining) else (None, 1.0)
    try:
        replies = fleet.collect(futures, deadline, quorum)
    except QuorumError:
        return []
    return [reply for reply in replies if not isinstance(reply, Missing) and _valid(reply.models, site.codec)]


def _valid(models: Packed, codec: Codec) -> bool:
    """Whether a device's models have this run's layout and are finite."""
    try:
        values = codec.values(models)
    except ValueError:
        return False
    # A finite sum proves all values finite in one cheap pass; only an overflowing sum needs the long look.
    return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def average(codec: Codec, updates: Sequence[Update], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The weighted mean of the updates' models, parameters and buffers alike, summed in the order given."""
    total, scaled = np.zeros(codec.length, np.float32), np.empty(codec.length, np.float32)
    for update, weight in zip(updates, weights.astype(np.float32), strict=True):
        total += np.multiply(codec.values(update.models), weight, out=scaled)
    return codec.split(total)
