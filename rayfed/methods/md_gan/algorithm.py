"""MD-GAN (Hardy, Le Merrer, Sericola: "MD-GAN: Multi-Discriminator Generative Adversarial Networks for Distributed
Datasets", IPDPS 2019).

One generator on the server, a discriminator on every device that never leaves it but for swaps. Per iteration the
server draws k batches of images; device n trains its D for L steps on X_d and answers X_g with F_n = dL/dx; the
generator follows the mean of the devices' feedback. A round is `iterations` of these.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rayfed.fleet.codec import Packed, Vector
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import DeviceContext
from rayfed.methods.exchange import collect
from rayfed.methods.md_gan import CentralGenerator
from rayfed.methods.md_gan.layout import (
    NO_SCORES,
    CentralServer,
    D,
    Feedback,
    load_discriminator,
    train_discriminator,
)
from rayfed.models.gan import seeded
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, generator, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace


class Device:
    """The worker. It owns its discriminator and that one's optimizer state."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state
        assert isinstance(context.config.method, CentralGenerator)
        self.method = context.config.method

    def feedback(self, fakes_d: Packed, fakes_g: Packed, load: Load, round: int, iteration: int) -> Feedback:
        """L steps of D against X_d, each on a fresh local batch, then F_n and the scores for X_g."""
        context, workspace, gan = self.context, self.context.workspace, self.context.workspace.gan
        load_discriminator(context, self.state)
        with seeded(torch_seed(context.seed, round, context.device, f"train {iteration}")):
            loss_d = train_discriminator(context, workspace.unpack_images(fakes_d), load, round, iteration)
            gradient, scores, loss_g = gan.feedback(workspace.unpack_images(fakes_g))
        self.state = gan.models([D]) | gan.optimizer_state([D])
        sent = scores.cpu().numpy() if self.method.sends_scores else NO_SCORES
        metrics = {"loss_g": float(loss_g), "loss_d": loss_d}
        return Feedback(context.shard.client, workspace.pack_images(gradient, "feedback"), sent, metrics)

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


class Server(CentralServer):
    """The server of MD-GAN (Algorithm 1 of the paper)."""

    def iterate(self, fleet: Fleet, loads: Mapping[ClientId, Load], round: int, iteration: int) -> list[Feedback]:
        """One global iteration: k batches out, feedback in, one step of G; then a swap if it is due."""
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
        replies = [reply for reply in collect(fleet, self.method, futures) if self.accepts(fleet, reply, fakes[0])]
        if replies:
            with fleet.work("update generator", workspace.meter.take):
                workspace.gan.follow(fakes[:k], self.gradients(replies, fakes[:k]))
        if self.swap_is_due((round - 1) * self.method.iterations + iteration + 1):
            swap(fleet, list(loads), generator(self.context.seed, round, SERVER, f"swap {iteration}"))
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
