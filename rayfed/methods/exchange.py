"""What the methods share: what a round reports, a round of local training, and the check of what comes back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rayfed.aggregation import GroupWeights, weighted_mean
from rayfed.aggregation.weights import Weights
from rayfed.config import Training
from rayfed.fleet.codec import Codec, Packed, Vector
from rayfed.fleet.protocol import Arrays, Fleet, Future, Missing, QuorumError
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.state import State
from rayfed.models.flops import Meter
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import SamplerState, Scheduler


@dataclass(frozen=True)
class Report:
    """What a round says of one client that took part: the real examples it trained on, and its mean metrics."""

    client: ClientId
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Update:
    """A device's reply: its models, the load it carried, its mean metrics, and whose it is."""

    client: ClientId
    models: Packed
    load: Load
    metrics: Mapping[str, float]

    @property
    def report(self) -> Report:
        """The update without its models."""
        return Report(self.client, self.load.images, self.metrics)


class Server(Protocol):
    """The server half of a method."""

    def init(self) -> State:
        """The state before the first round."""

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One round: the state after it, and who took part."""


def choose_group(scheduler: Scheduler, round: int, sampler: SamplerState) -> tuple[dict[ClientId, Load], SamplerState]:
    """The load of each client of a round's group, in the order of the clients, and the sampler's next state."""
    group, sampler = scheduler.select(round, sampler)
    group = sorted(group)
    return dict(zip(group, scheduler.loads(group), strict=True)), sampler


def train_group(
    fleet: Fleet, method: Training, codec: Codec, round: int, models: Arrays, loads: Mapping[ClientId, Load]
) -> list[Update]:
    """Send the models to the clients, let each `train`, and give the valid updates in the order of the clients.

    Empty when fewer than the quorum replied: the round is abandoned.
    """
    handle = fleet.share(codec.encode(models))
    futures = [
        fleet.submit(DeviceId(client), "train", handle, load, round, cost=load.images)
        for client, load in sorted(loads.items())
    ]
    return [update for update in collect(fleet, method, futures) if is_valid(update.models, codec)]


def collect(fleet: Fleet, method: Training, futures: Sequence[Future]) -> list[Any]:
    """The replies that arrived within the method's deadline; none when they are fewer than its quorum."""
    try:
        replies = fleet.collect(futures, *method.patience)
    except QuorumError:
        return []
    return [reply for reply in replies if not isinstance(reply, Missing)]


def is_valid(packed: Packed, codec: Codec) -> bool:
    """Whether what a device sent has this run's layout and is finite."""
    try:
        values = codec.values(packed)
    except ValueError:
        return False
    # A finite sum proves all values finite in one cheap pass; only an overflowing sum needs the long look.
    return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def average(fleet: Fleet, meter: Meter, codec: Codec, updates: Sequence[Update], weights: GroupWeights) -> Arrays:
    """The weighted mean of the updates' models, parameters and buffers alike."""
    shares = weights.among([update.client for update in updates])
    models = (codec.values(update.models) for update in updates)
    return codec.split(mean(fleet, meter, models, shares, codec.length))


def mean(fleet: Fleet, meter: Meter, updates: Iterable[Vector], weights: Weights, length: int) -> Vector:
    """`weighted_mean` as work of the server's, at two operations for each value of each update [length]."""
    with fleet.work("average", meter.take):
        meter.add(2 * length * len(weights))
        return weighted_mean(updates, weights, length)
