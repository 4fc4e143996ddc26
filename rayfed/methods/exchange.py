"""What the methods share: what a round reports, a round of local training, and the check of what comes back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rayfed.aggregation import GroupWeights, RunningMean, Weigh, weighted_mean
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
    fleet: Fleet,
    method: Training,
    meter: Meter,
    codec: Codec,
    state: State,
    loads: Mapping[ClientId, Load],
    weigh: Weigh,
) -> tuple[Arrays, list[Report]]:
    """Send the state's models to the clients, let each `train`, and `average` what comes back."""
    weights = GroupWeights(weigh, loads)
    handle = fleet.share(codec.encode(state.models))
    futures = [
        fleet.submit(DeviceId(client), "train", handle, load, state.round + 1, cost=load.images, last=True)
        for client, load in loads.items()
    ]
    return average(fleet, method, meter, codec, futures, weights)


def average(
    fleet: Fleet, method: Training, meter: Meter, codec: Codec, futures: Sequence[Future], weights: GroupWeights
) -> tuple[Arrays, list[Report]]:
    """The weighted mean of the models in these calls' Updates, parameters and buffers alike, and the clients' reports.

    Calls are those of a group, in the order of its clients. Each reply is added as it comes, and not kept; only when
    some are missing or not valid are the others read again, to weigh them among themselves. Empty, without reports,
    when fewer than the quorum arrived or none is valid.
    """
    deadline, quorum = method.patience
    mean, valid, reports, arrived = RunningMean(codec.length), list[Future](), list[Report](), 0
    updates = fleet.stream(futures, deadline, hold=deadline is not None)
    for future, weight, update in zip(futures, weights.planned, updates, strict=True):
        if isinstance(update, Missing):
            continue
        arrived += 1
        if accepts(fleet, update, codec):
            mean.add(codec.values(update.models), weight)
            valid.append(future)
            reports.append(update.report)
    if not valid or arrived < quorum * len(futures):
        return {}, []
    with fleet.work("average", meter.take):
        meter.add(2 * codec.length * len(valid))
        if len(valid) < len(futures):
            return _weighed_anew(fleet, codec, valid, weights)
        return codec.split(mean.total), reports


def _weighed_anew(
    fleet: Fleet, codec: Codec, futures: Sequence[Future], weights: GroupWeights
) -> tuple[Arrays, list[Report]]:
    """The mean over those calls alone; of a reply that has got lost meanwhile there is none."""
    clients = [ClientId(future.device) for future in futures]
    mean, reports = RunningMean(codec.length), list[Report]()
    for weight, update in zip(weights.among(clients), fleet.again(futures), strict=True):
        if isinstance(update, Missing):
            return {}, []
        mean.add(codec.values(update.models), weight)
        reports.append(update.report)
    return codec.split(mean.total), reports


def collect(fleet: Fleet, method: Training, futures: Sequence[Future]) -> list[Any]:
    """The replies that arrived within the method's deadline; none when they are fewer than its quorum."""
    try:
        replies = fleet.collect(futures, *method.patience)
    except QuorumError:
        return []
    return [reply for reply in replies if not isinstance(reply, Missing)]


def accepts(fleet: Fleet, update: Update, codec: Codec) -> bool:
    """Whether an update is valid; the ledger notes one that is not."""
    valid = is_valid(update.models, codec)
    if not valid:
        fleet.reject(update.client)
    return valid


def is_valid(packed: Packed, codec: Codec) -> bool:
    """Whether what a device sent has this run's layout and is finite."""
    try:
        values = codec.values(packed)
    except ValueError:
        return False
    # A finite sum proves all values finite in one cheap pass; only an overflowing sum needs the long look.
    return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def mean(fleet: Fleet, meter: Meter, updates: Iterable[Vector], weights: Weights, length: int) -> Vector:
    """`weighted_mean` as work of the server's, at two operations for each value of each update [length]."""
    with fleet.work("average", meter.take):
        meter.add(2 * length * len(weights))
        return weighted_mean(updates, weights, length)
