"""A method's rounds without most of the training: what they would cost on the twin, for many devices.

Time on the twin depends on operations and bytes alone, and those on the kind of call. So each kind of call (method,
load, payload sizes) runs once, for real, and its reply stands for those of all other devices.
"""

from collections.abc import Hashable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from rayfed.algorithms import device_host
from rayfed.config import RunConfig
from rayfed.data.setup import Federation
from rayfed.fleet.host import Host
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Arrays, Receipt
from rayfed.runtime.session import blocks_of, class_totals
from rayfed.runtime.trainer import Trainer
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler

Known = dict[Hashable, tuple[Any, Arrays, Receipt]]
"""What each kind of call gave."""


class Understudy(Host):
    """A host that runs each kind of call once and then repeats what it gave."""

    def __init__(self, host: Host, known: Known) -> None:
        super().__init__(host.build, host.flops)
        self._known = known

    def run(self, device: int, method: str, state: Arrays, *args: Any) -> tuple[Any, Arrays, Receipt]:
        """See `rayfed.fleet.host.Host.run`."""
        kind = method, *map(_kind, args)
        if kind not in self._known:
            self._known[kind] = super().run(device, method, state, *args)
        reply, state, receipt = self._known[kind]
        if is_dataclass(reply) and any(field.name == "device" for field in fields(reply)):
            reply = replace(reply, device=device)  # type: ignore[type-var]
        return reply, state, receipt


def _kind(arg: Any) -> Hashable:
    """What of an argument decides a call's cost: a load, its own `kind`, an array's shape; round numbers do not."""
    if isinstance(arg, Load | tuple):
        return arg
    if hasattr(arg, "kind"):
        return arg.kind
    data = getattr(arg, "data", None)
    return data.shape if isinstance(data, np.ndarray) else None


def rehearse_rounds(
    config: RunConfig, federation: Federation, rounds: int, known: Known | None = None
) -> list[dict[str, float]]:
    """The metrics of a run's first rounds: bytes and simulated seconds are the run's, losses are not.

    `known` carries calls over from rehearsals that differ in nothing but devices, twin and rounds.
    """
    torch.set_num_threads(1)
    dataset = federation.dataset
    host = device_host(config, len(dataset.classes), dataset.train_images, dataset.train_labels, federation.parts)
    fleet = LocalFleet(Understudy(host, {} if known is None else known))
    scheduler = Scheduler(config, federation.counts, blocks_of(config, federation))
    trainer = Trainer(config, dataset.train_images.shape[1], fleet, scheduler, *class_totals(federation))
    trainer.start(None)
    return [trainer.round().metrics for _ in range(rounds)]


def rehearse(config: RunConfig, federation: Federation) -> float:
    """Images trained on per simulated second, over a first round in which no device drops out."""
    present = [profile.model_copy(update={"dropout": 0.0}) for profile in config.twin.devices]
    twin = config.twin.model_copy(update={"devices": present, "drop_late": False})
    (metrics,) = rehearse_rounds(config.model_copy(update={"twin": twin}), federation, 1)
    return metrics["images"] / metrics["sim_seconds"]
