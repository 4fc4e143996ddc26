"""What MD-GAN, F2U, F2A and AsynDGAN share: one generator on the server, a discriminator on every device.

A round is `iterations` global iterations. In each the devices get fakes, train their discriminators and answer with
feedback, dL/dx of the loss L that the generator is to lower; the generator follows what comes back.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.ids import ClientId
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Report, choose_group, is_valid
from rayfed.methods.md_gan import CentralGenerator
from rayfed.methods.state import State
from rayfed.models.gan import to_images
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace

D, G = "discriminator", "generator"
NO_SCORES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Feedback:
    """A device's reply: dL/dx of fakes, D(x) of each [b] where the method `sends_scores`, the losses of G and D."""

    client: ClientId
    gradient: Packed
    scores: np.ndarray
    metrics: Mapping[str, float]


def load_discriminator(context: DeviceContext[GanWorkspace], state: Arrays) -> None:
    """Load a device's discriminator and optimizer state; before its first turn, fresh ones keyed by the device."""
    gan = context.workspace.gan
    if state:
        gan.load_models({D: state[D]})
    else:
        gan.initialise(torch_seed(context.seed, 0, context.device, "weights"))
    gan.load_optimizer_state(state or None, [D])


def train_discriminator(
    context: DeviceContext[GanWorkspace],
    fakes: Tensor,
    load: Load,
    round: int,
    iteration: int,
    labels: np.ndarray | None = None,
) -> float:
    """L steps of D on the same fakes, each against a fresh local batch; the mean loss. `labels` are the fakes'."""
    gan, shard, steps, losses = context.workspace.gan, context.shard, load.iterations, []
    for batch in shard.indices(load.batch, round, iteration * steps, steps):
        real = to_images(shard.images[batch], gan.device)
        losses.append(gan.discriminator_step(real, fakes, shard.labels[batch], labels))
    return float(torch.stack(losses).mean())


class CentralServer(ABC):
    """The generator, and rounds of whatever iterations a method has."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        self.context = context
        self.workspace = context.workspace
        self.scheduler = context.scheduler
        assert isinstance(context.config.method, CentralGenerator)
        self.method = context.config.method
        self.counts = self.scheduler.class_counts()
        self.samples = self.counts.sum(axis=1)

    def init(self) -> State:
        """A fresh generator, its optimizer state at zero."""
        gan = self.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        gan.load_optimizer_state(None, [G])
        return State(0, gan.models([G]), gan.optimizer_state([G]), self.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """`iterations` global iterations; without any reply G stays as it is."""
        round, gan = state.round + 1, self.workspace.gan
        gan.load_models(state.models)
        gan.load_optimizer_state(state.optimizer, [G])
        loads, sampler = choose_group(self.scheduler, round, state.sampler)
        replies: list[Feedback] = []
        for iteration in range(self.method.iterations):
            replies += self.iterate(fleet, loads, round, iteration)
        state = replace(state, round=round, sampler=sampler)
        if replies:
            state = replace(state, models=gan.models([G]), optimizer=gan.optimizer_state([G]))
        return state, reports(replies, loads)

    @abstractmethod
    def iterate(self, fleet: Fleet, loads: Mapping[ClientId, Load], round: int, iteration: int) -> list[Feedback]:
        """One global iteration, with a step of G if anybody replied; the valid replies."""

    def accepts(self, fleet: Fleet, reply: Feedback, images: Tensor) -> bool:
        """Whether a reply is finite feedback for images like these; the ledger notes one that is not."""
        codec = self.workspace.image_codec(images.numel(), "feedback")
        scored = reply.scores.shape == ((len(images),) if self.method.sends_scores else (0,))
        valid = is_valid(reply.gradient, codec) and scored and bool(np.isfinite(reply.scores).all())
        if not valid:
            fleet.reject(reply.client)
        return valid


def reports(replies: list[Feedback], loads: Mapping[ClientId, Load]) -> list[Report]:
    """One report per device over a round's replies."""
    found = []
    for client, load in loads.items():
        mine = [reply.metrics for reply in replies if reply.client == client]
        if mine:
            metrics = {name: float(np.mean([each[name] for each in mine])) for name in mine[0]}
            found.append(Report(client, load.images * len(mine), metrics))
    return found
