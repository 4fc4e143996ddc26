"""FedAvg of whole GANs (McMahan et al. 2017, applied to G and D together).

FL-VANILLA, FeGAN's baseline, takes the plain mean; FedGAN (Rasouli et al. 2020) weights each device by its share
n_k / n of the participants' samples. FeGAN's round is this one too, with other weights (`rayfed.methods.fegan`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rayfed.aggregation import Weigh, by_samples, uniform
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


class Device:
    """Local training of (G, D). What a device owns between rounds is Adam's state."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        """E local iterations of (G, D) on batches of B, from the server's models."""
        gan, codec, shard = self.context.workspace.gan, self.context.workspace.codec, self.context.shard
        gan.load_models(codec.decode(models))
        gan.load_optimizer_state(self.state or None)
        seed = torch_seed(self.context.seed, round, self.context.device, "train")
        loss_g, loss_d = gan.train(shard.batches(load.batch, load.iterations, round), seed)
        if self.context.config.method.keeps_optimizer_state:
            self.state = gan.optimizer_state()
        return Update(shard.client, codec.encode(gan.models()), load, {"loss_g": loss_g, "loss_d": loss_d})


class Server:
    """FL-VANILLA: participants (random unless configured), local training, the plain mean."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        self.context = context
        self.scheduler = context.scheduler
        self.weigh: Weigh = uniform

    def init(self) -> State:
        """Fresh networks, and the sampler before the first round."""
        gan = self.context.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, gan.models(), sampler=self.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One round: sample, weigh, train, average. Without any update the models stay as they are."""
        loads, sampler = choose_group(self.scheduler, state.round + 1, state.sampler)
        method, workspace = self.context.config.method, self.context.workspace
        models, reports = train_group(fleet, method, workspace.meter, workspace.codec, state, loads, self.weigh)
        return replace(state, round=state.round + 1, models=models or state.models, sampler=sampler), reports


class FedGanServer(Server):
    """FedAvg weighted by the devices' samples."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        super().__init__(context)
        self.weigh = by_samples(self.scheduler.class_counts().sum(axis=1))


METHODS = [
    MethodSpec(
        "fl-vanilla", "FedAvg of G and D, plain mean (FeGAN's baseline)", FederatedTraining, Server, Device, BOTH
    ),
    MethodSpec(
        "fedgan",
        "FedAvg of G and D weighted by samples (Rasouli et al.)",
        FederatedTraining,
        FedGanServer,
        Device,
        BOTH,
    ),
]
