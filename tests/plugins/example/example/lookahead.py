"""Federated Lookahead: FedAvg of whole GANs, in which the server goes only a part of the way.

The server's models are the slow weights; the participants train from them, and the mean of what they give is the fast
ones. The server goes the fraction alpha of the way from slow to fast (Zhang, Lucas, Hinton, Ba: "Lookahead Optimizer: k
steps forward, 1 step back", 2019, Algorithm 1; for GANs Chavdarova et al., "Taming GANs with Lookahead-Minmax", 2021).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from rayfed.aggregation import uniform
from rayfed.config import FederatedTraining
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Report, Update, choose_group, train_group
from rayfed.methods.spec import BOTH, MethodSpec
from rayfed.methods.state import State
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed

if TYPE_CHECKING:
    from rayfed.tasks.gan.workspace import GanWorkspace


class Settings(FederatedTraining):
    """What a configuration's `method` section can say, beside what every federated method can be told."""

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How much of the way the server goes; 1 is FL-VANILLA."""


class Device:
    """Runs where the data lives. `state`, arrays by name, is the device's own from round to round."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        """E iterations of (G, D) on batches of B, from the server's models; Adam's state stays here."""
        gan, codec, shard = self.context.workspace.gan, self.context.workspace.codec, self.context.shard
        gan.load_models(codec.decode(models))
        gan.load_optimizer_state(self.state or None)
        seed = torch_seed(self.context.seed, round, self.context.device, "train")
        loss_g, loss_d = gan.train(shard.batches(load.batch, load.iterations, round), seed)
        self.state = gan.optimizer_state()
        return Update(shard.client, codec.encode(gan.models()), load, {"loss_g": loss_g, "loss_d": loss_d})


class Server:
    """Runs rounds. All that the next round needs is in the State that the last one gave."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        assert isinstance(context.config.method, Settings)
        self.context = context
        self.method = context.config.method

    def init(self) -> State:
        """Fresh networks."""
        gan = self.context.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, gan.models(), sampler=self.context.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """Choose who takes part, let them train, and go a part of the way to their mean."""
        round, workspace = state.round + 1, self.context.workspace
        loads, sampler = choose_group(self.context.scheduler, round, state.sampler)
        fast, reports = train_group(fleet, self.method, workspace.meter, workspace.codec, state, loads, uniform)
        models = state.models
        if fast:  # empty where too few replied: the models stay as they are
            alpha = np.float32(self.method.alpha)
            models = {name: alpha * fast[name] + (1 - alpha) * slow for name, slow in models.items()}
        return replace(state, round=round, models=models, sampler=sampler), reports


METHOD = MethodSpec(
    name="lookahead",
    about="Lookahead of G and D on the server (Zhang et al. 2019)",
    settings=Settings,
    server=Server,
    device=Device,
    trains=BOTH,
)
