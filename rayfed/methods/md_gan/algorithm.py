"""MD-GAN (Hardy, Le Merrer, Sericola: "MD-GAN: Multi-Discriminator Generative Adversarial Networks for Distributed
Datasets", IPDPS 2019), and F2U and F2A (Yonetani et al. 2019) in its layout.

One generator on the server, a discriminator on every device that never leaves it but for swaps. Per iteration the
server draws k batches of images; device n trains its D for L steps on X_d and answers X_g with F_n = dL/dx; the
generator follows the devices' feedback. A round is `iterations` of these. MD-GAN takes the mean over devices; F2U
takes, image by image, the feedback of the device that finds the image most real; F2A the mean with weights
softmax(lambda D_n(x)).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rayfed.fleet.codec import Packed, Vector
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Report, collect, is_valid
from rayfed.methods.md_gan import F2A, CentralGenerator
from rayfed.methods.state import State
from rayfed.models.gan import seeded, to_images
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, generator, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace

D, G = "discriminator", "generator"
NO_SCORES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Feedback:
    """A device's reply: F_n for X_g, D_n(x) of each image [b] where the rule asks for it, the losses of G and D."""

    client: ClientId
    gradient: Packed
    scores: np.ndarray
    metrics: Mapping[str, float]


class Device:
    """The worker. It owns its discriminator and that one's optimizer state."""

    sends_scores = False

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def feedback(self, fakes_d: Packed, fakes_g: Packed, load: Load, round: int, iteration: int) -> Feedback:
        """L steps of D against X_d, each on a fresh local batch, then F_n and the scores for X_g."""
        workspace, shard = self.context.workspace, self.context.shard
        gan = workspace.gan
        load_discriminator(self.context, self.state)
        fakes = workspace.unpack_images(fakes_d)
        steps = load.iterations
        losses = []
        with seeded(torch_seed(self.context.seed, round, self.context.device, f"train {iteration}")):
            for batch in shard.indices(load.batch, round, iteration * steps, steps):
                losses.append(gan.discriminator_step(to_images(shard.images[batch], gan.device), fakes))
            gradient, scores, loss = gan.feedback(workspace.unpack_images(fakes_g))
        self.state = gan.models([D]) | gan.optimizer_state([D])
        sent = scores.cpu().numpy() if self.sends_scores else NO_SCORES
        metrics = {"loss_g": float(loss), "loss_d": float(torch.stack(losses).mean())}
        return Feedback(shard.client, workspace.pack_images(gradient, "feedback"), sent, metrics)

    def give(self) -> Packed:
        """The discriminator, on its way to another device."""
        workspace = self.context.workspace
        load_discriminator(self.context, self.state)
        return workspace.codecs[D].encode(workspace.gan.models([D]))

    def take(self, discriminator: Packed) -> None:
        """Another device's discriminator replaces this one's; the optimizer state stays."""
        workspace = self.context.workspace
        load_discriminator(self.context, self.state)
        self.state = workspace.codecs[D].decode(discriminator) | workspace.gan.optimizer_state([D])


class ScoringDevice(Device):
    """F2U's and F2A's worker also says how real it finds each image."""

    sends_scores = True


def load_discriminator(context: DeviceContext[GanWorkspace], state: Arrays) -> None:
    """Load a device's discriminator and optimizer state; before its first turn, fresh ones keyed by the device."""
    gan = context.workspace.gan
    if state:
        gan.load_models({D: state[D]})
    else:
        gan.initialise(torch_seed(context.seed, 0, context.device, "weights"))
    gan.load_optimizer_state(state or None, [D])


class Server:
    """The server of MD-GAN (Algorithm 1 of the paper)."""

    uses_scores = False

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        self.context = context
        self.workspace = context.workspace
        self.scheduler = context.scheduler
        assert isinstance(context.config.method, CentralGenerator)
        self.method = context.config.method
        self.samples = self.scheduler.class_counts().sum(axis=1)

    def init(self) -> State:
        """A fresh generator, its optimizer state at zero."""
        gan = self.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        gan.load_optimizer_state(None, [G])
        return State(0, gan.models([G]), gan.optimizer_state([G]), self.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """`iterations` global iterations, and swaps when they are due; without any reply G stays as it is."""
        round, gan = state.round + 1, self.workspace.gan
        gan.load_models(state.models)
        gan.load_optimizer_state(state.optimizer, [G])
        group, sampler = self.scheduler.select(round, state.sampler)
        group = sorted(group)
        loads = dict(zip(group, self.scheduler.loads(group), strict=True))
        replies: list[Feedback] = []
        for iteration in range(self.method.iterations):
            replies += self.iterate(fleet, loads, round, iteration)
            if self.swap_is_due((round - 1) * self.method.iterations + iteration + 1):
                swap(fleet, group, generator(self.context.seed, round, SERVER, f"swap {iteration}"))
        state = replace(state, round=round, sampler=sampler)
        if replies:
            state = replace(state, models=gan.models([G]), optimizer=gan.optimizer_state([G]))
        return state, reports(replies, loads)

    def iterate(self, fleet: Fleet, loads: Mapping[ClientId, Load], round: int, iteration: int) -> list[Feedback]:
        """One global iteration: k batches out, feedback in, one step of G."""
        workspace, k = self.workspace, self.method.distinct_batches(self.context.config.devices.count)
        with fleet.work("generate", workspace.meter.take):
            fakes = self.draw(max(k, 2), round, iteration)
        handles = [fleet.share(workspace.pack_images(images, "fakes")) for images in fakes]
        futures = [
            fleet.submit(
                DeviceId(n), "feedback", handles[(n % k + 1) % len(fakes)], handles[n % k], load, round, iteration
            )
            for n, load in loads.items()
        ]
        replies = [reply for reply in collect(fleet, self.method, futures) if self.is_valid(reply, fakes[0])]
        if replies:
            with fleet.work("update generator", workspace.meter.take):
                workspace.gan.follow(fakes[:k], self.gradients(replies, fakes[:k]))
        return replies

    def draw(self, count: int, round: int, iteration: int) -> list[Tensor]:
        """`count` batches [b, C, H, W] from as many draws of noise, with their graphs."""
        gan = self.workspace.gan
        with seeded(torch_seed(self.context.seed, round, SERVER, f"noise {iteration}")):
            return [gan.fakes(gan.noise(self.method.batch)) for _ in range(count)]

    def gradients(self, replies: list[Feedback], fakes: list[Tensor]) -> list[Tensor]:
        """dL/dx of each of the k batches: the devices' feedback on it, weighted image by image, in device order."""
        totals = [torch.zeros_like(images, memory_format=torch.channels_last) for images in fakes]
        for reply, weights in zip(replies, self.weights(replies), strict=True):
            column = torch.from_numpy(weights).to(self.workspace.gan.device).view(-1, 1, 1, 1)
            totals[reply.client % len(fakes)] += column * self.workspace.unpack_images(reply.gradient)
        return totals

    def weights(self, replies: list[Feedback]) -> Vector:
        """MD-GAN: 1 / N for each of N devices and every image, float32 [N, b]."""
        return np.full((len(replies), self.method.batch), 1 / len(replies), np.float32)

    def swap_is_due(self, iteration: int) -> bool:
        """Whether discriminators are swapped after this iteration, counted from 1 since the run's start."""
        period = self.method.swap_period(float(self.samples.mean()))
        return period is not None and iteration % period == 0

    def is_valid(self, reply: Feedback, images: Tensor) -> bool:
        """Whether a reply is finite feedback for images like these."""
        codec = self.workspace.image_codec(images.numel(), "feedback")
        scored = reply.scores.shape == ((len(images),) if self.uses_scores else (0,))
        return is_valid(reply.gradient, codec) and scored and bool(np.isfinite(reply.scores).all())


class F2UServer(Server):
    """Forgiver-first update: per image, only the discriminator that finds it most real counts."""

    uses_scores = True

    def weights(self, replies: list[Feedback]) -> Vector:
        """One-hot over devices, float32 [N, b]; the lowest device wins a tie."""
        scores = np.stack([reply.scores for reply in replies])
        chosen: Vector = (np.arange(len(replies))[:, None] == scores.argmax(axis=0)).astype(np.float32)
        return chosen


class F2AServer(Server):
    """Forgiver-first aggregation: the more real a discriminator finds an image, the more it counts."""

    uses_scores = True

    def weights(self, replies: list[Feedback]) -> Vector:
        """softmax over devices of lambda D_n(x), float32 [N, b]; lambda 0 is the mean."""
        assert isinstance(self.method, F2A)
        scores = self.method.forgiveness * np.stack([reply.scores for reply in replies])
        weights = np.exp(scores - scores.max(axis=0))
        mixed: Vector = (weights / weights.sum(axis=0)).astype(np.float32)
        return mixed


def swap(fleet: Fleet, group: list[ClientId], rng: np.random.Generator) -> None:
    """Each device's discriminator moves to another device: a random permutation in which nobody keeps its own."""
    if len(group) < 2:
        return
    given = [fleet.submit(DeviceId(client), "give") for client in group]
    for source, target in enumerate(derangement(len(group), rng)):
        fleet.submit(DeviceId(group[target]), "take", given[source])


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """A uniform permutation of 0..count-1 without fixed points; count must be at least 2."""
    while True:
        order = rng.permutation(count)
        if not (order == np.arange(count)).any():
            return order


def reports(replies: list[Feedback], loads: Mapping[ClientId, Load]) -> list[Report]:
    """One report per device over a round's replies."""
    found = []
    for client, load in loads.items():
        mine = [reply.metrics for reply in replies if reply.client == client]
        if mine:
            metrics = {name: float(np.mean([each[name] for each in mine])) for name in mine[0]}
            found.append(Report(client, load.images * len(mine), metrics))
    return found
