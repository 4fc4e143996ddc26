"""What the methods share: the state of a run, what a round reports, a round of local training, the mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rayfed.algorithms.site import Site
from rayfed.config import DistributedTraining
from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.protocol import Fleet, Future, Missing, QuorumError
from rayfed.scheduling.clients import Placement
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import SamplerState


@dataclass(frozen=True)
class State:
    """The server's learning state after `round` rounds: float32 vectors by name, and JSON facts."""

    round: int
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]
    events: tuple[str, ...] = ()
    """What happened in this round that the run's history must tell, a line each."""


@dataclass(frozen=True)
class Report:
    """What a round says of one device that took part: the real images it trained on, the mean losses of G and D."""

    device: int
    images: int
    loss_g: float
    loss_d: float


@dataclass(frozen=True)
class Update:
    """A device's reply: its models, the load it carried, its mean losses, and which device it is."""

    device: int
    models: Packed
    load: Load
    loss_g: float
    loss_d: float

    @property
    def report(self) -> Report:
        """The update without its models."""
        return Report(self.device, self.load.images, self.loss_g, self.loss_d)


class Scheduler(Protocol):
    """What an algorithm asks of the scheduler; see `rayfed.scheduling.scheduler`."""

    def start(self) -> SamplerState: ...
    def select(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]: ...
    def loads(self, group: list[int]) -> list[Load]: ...
    def class_counts(self) -> np.ndarray: ...
    def placements(self, round: int, gone: list[int]) -> list[Placement]: ...
    def misfits(self, gone: list[int]) -> dict[str, str]: ...
    def assume(self, slowness: dict[int, float]) -> None: ...


class Server(Protocol):
    """The server half of a method."""

    def init(self) -> State: ...
    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]: ...


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
    return [update for update in collect(fleet, site, futures) if is_valid(update.models, site.codec)]


def collect(fleet: Fleet, site: Site, futures: Sequence[Future]) -> list[Any]:
    """The replies that arrived within the method's deadline; none when they are fewer than its quorum."""
    method = site.config.method
    deadline, quorum = (method.deadline_s, method.quorum) if isinstance(method, DistributedTraining) else (None, 1.0)
    try:
        replies = fleet.collect(futures, deadline, quorum)
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


def average(site: Site, fleet: Fleet, codec: Codec, updates: Sequence[Update], weights: np.ndarray) -> dict[str, Any]:
    """The weighted mean of the updates' models, parameters and buffers alike, summed in the order given."""
    total, scaled = np.zeros(codec.length, np.float32), np.empty(codec.length, np.float32)
    with site.work(fleet, "average"):
        site.gan.meter.add(2 * codec.length * len(updates))
        for update, weight in zip(updates, weights.astype(np.float32), strict=True):
            total += np.multiply(codec.values(update.models), weight, out=scaled)
    return codec.split(total)
