"""A method's rounds without most of the training: what they would cost on the twin, for many devices.

Time on the twin depends on operations and bytes alone, and those on the kind of call. So each kind of call (method,
load, payload sizes) runs once, for real, and its reply stands for those of all other devices.
"""

from collections.abc import Hashable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from rayfed.config import RunConfig
from rayfed.data.setup import Federation
from rayfed.engine.trainer import Trainer, device_host
from rayfed.fleet.codec import Packed
from rayfed.fleet.host import Host
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Arrays, Receipt
from rayfed.ids import DeviceId
from rayfed.methods.spec import method_of
from rayfed.models.flops import rehearsing
from rayfed.scheduling.load import Load

Known = dict[Hashable, tuple[Any, Arrays, Receipt]]
"""What each kind of call gave."""


class Understudy(Host):
    """A host that runs each kind of call once and then repeats what it gave."""

    def __init__(self, host: Host, known: Known) -> None:
        super().__init__(host.build, host.flops)
        self._known = known

    def run(self, device: DeviceId, method: str, state: Arrays, *args: Any) -> tuple[Any, Arrays, Receipt]:
        """See `rayfed.fleet.host.Host.run`."""
        kind = method, *map(_kind, args)
        if kind not in self._known:
            self._known[kind] = super().run(device, method, state, *args)
        reply, state, receipt = self._known[kind]
        if is_dataclass(reply) and not isinstance(reply, type):
            own = {field.name: device for field in fields(reply) if field.name in ("device", "client")}
            reply = replace(reply, **own)
        return reply, state, receipt


def _kind(arg: Any) -> Hashable:
    """What of an argument decides a call's cost: a load, its own `kind`, a payload's shape; round numbers do not."""
    if isinstance(arg, Load | tuple):
        return arg
    if isinstance(arg, Packed):
        return arg.kind, arg.data.shape
    kind: Hashable = getattr(arg, "kind", None)
    return kind


def rehearse_rounds(
    config: RunConfig, federation: Federation, rounds: int, known: Known | None = None
) -> list[dict[str, float]]:
    """The metrics of a run's first rounds: bytes and simulated seconds are the run's, losses are not.

    `known` carries calls over from rehearsals that differ in nothing but devices, twin and rounds.
    """
    torch.set_num_threads(1)
    population = federation.population
    host = device_host(config, population, federation.shards(config.seed))
    fleet = LocalFleet(Understudy(host, {} if known is None else known))
    trainer = Trainer(config, population, fleet, method_of(config).scheduler(config, population))
    with rehearsing():
        trainer.start(None)
        return [trainer.round().metrics for _ in range(rounds)]


def rehearse(config: RunConfig, federation: Federation, known: Known | None = None) -> float:
    """Images trained on per simulated second over a first round in which no device drops out; see `rehearse_rounds`.

    Where a method's rounds are not all alike, over one of its last phase.
    """
    config = method_of(config).phases(config)[-1].config
    present = [profile.model_copy(update={"dropout": 0.0}) for profile in config.twin.devices]
    twin = config.twin.model_copy(update={"devices": present, "drop_late": False})
    (metrics,) = rehearse_rounds(config.model_copy(update={"twin": twin}), federation, 1, known)
    return metrics["images"] / metrics["sim_seconds"]
