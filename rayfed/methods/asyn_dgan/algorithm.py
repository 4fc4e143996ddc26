"""AsynDGAN (Chang et al.: "Synthetic Learning: Learn From Distributed Asynchronized Discriminator GAN Without Sharing
Medical Image Data", CVPR 2020).

One conditional generator on the server, a conditional discriminator at every site; only fakes and their gradients cross
the line. Per iteration each site gets fakes for conditions like its own data's, trains its D on them against its images
and answers with dL/dx; G follows the sum over sites weighted by n_k / n. The paper's condition is an image of the same
scene; here it is the class label, drawn by a site's class frequencies from a seed that both sides know.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import DeviceContext
from rayfed.methods.exchange import collect
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
from rayfed.seeding import generator, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace


class Device:
    """A site. It owns its discriminator and that one's optimizer state."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def feedback(self, fakes: Packed, load: Load, round: int, iteration: int) -> Feedback:
        """L steps of D on the fakes against local images, then dL/dx for the same fakes."""
        workspace, shard, seed = self.context.workspace, self.context.shard, self.context.seed
        gan = workspace.gan
        load_discriminator(self.context, self.state)
        images = workspace.unpack_images(fakes)
        labels = conditions(seed, round, iteration, shard.client, shard.class_counts(), len(images))
        with seeded(torch_seed(seed, round, self.context.device, f"train {iteration}")):
            loss_d = train_discriminator(self.context, images, load, round, iteration, labels)
            gradient, _, loss_g = gan.feedback(images, labels)
        self.state = gan.models([D]) | gan.optimizer_state([D])
        metrics = {"loss_g": float(loss_g), "loss_d": loss_d}
        return Feedback(shard.client, workspace.pack_images(gradient, "feedback"), NO_SCORES, metrics)


def conditions(seed: int, round: int, iteration: int, client: ClientId, counts: np.ndarray, size: int) -> np.ndarray:
    """`size` labels by a site's class counts [C], the same on the server and on the site."""
    rng = generator(seed, round, client, f"conditions {iteration}")
    return rng.choice(len(counts), size, p=counts / counts.sum())


class Server(CentralServer):
    """The central generator."""

    def iterate(self, fleet: Fleet, loads: Mapping[ClientId, Load], round: int, iteration: int) -> list[Feedback]:
        """One iteration: fakes to every site, its gradients back, one step of G."""
        workspace = self.workspace
        with fleet.work("generate", workspace.meter.take):
            fakes = self.draw_for(list(loads), round, iteration)
        futures = []
        for client, load in loads.items():
            handle = fleet.share(workspace.pack_images(fakes[client], "fakes"))
            futures.append(fleet.submit(DeviceId(client), "feedback", handle, load, round, iteration))
        replies = [r for r in collect(fleet, self.method, futures) if self.accepts(fleet, r, fakes[r.client])]
        if replies:
            answered = [reply.client for reply in replies]
            shares = self.samples[answered] / self.samples[answered].sum()
            gradients = [
                float(share) * workspace.unpack_images(reply.gradient)
                for share, reply in zip(shares, replies, strict=True)
            ]
            with fleet.work("update generator", workspace.meter.take):
                workspace.gan.follow([fakes[client] for client in answered], gradients)
        return replies

    def draw_for(self, clients: list[ClientId], round: int, iteration: int) -> dict[ClientId, Tensor]:
        """Each site's own fakes [b, C, H, W] for its own conditions, with their graphs."""
        gan, seed, size, fakes = self.workspace.gan, self.context.seed, self.method.batch, {}
        for client in clients:
            labels = conditions(seed, round, iteration, client, self.counts[client], size)
            with seeded(torch_seed(seed, round, client, f"noise {iteration}")):
                fakes[client] = gan.fakes(gan.noise(size), labels)
        return fakes
