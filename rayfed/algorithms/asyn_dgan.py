"""AsynDGAN (Chang et al.: "Synthetic Learning: Learn From Distributed Asynchronized Discriminator GAN Without Sharing
Medical Image Data", CVPR 2020).

One conditional generator on the server, a conditional discriminator at every site; only fakes and their gradients cross
the line. Per iteration each site gets fakes for conditions like its own data's, trains its D on them against its images
and answers with dL/dx; G follows the sum over sites weighted by n_k / n. The paper's condition is an image of the same
scene; here it is the class label, drawn by a site's class frequencies from a seed that both sides know.
"""

import numpy as np
import torch
from torch import Tensor

from rayfed.algorithms.common import Scheduler, collect
from rayfed.algorithms.md_gan import NO_SCORES, D, Feedback, load_discriminator
from rayfed.algorithms.md_gan import Server as MdGanServer
from rayfed.algorithms.site import Site
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.models.gan import seeded, to_images
from rayfed.scheduling.load import Load
from rayfed.seeding import generator, torch_seed


class Device:
    """A site. It owns its discriminator and that one's Adam moments."""

    def __init__(self, number: int, site: Site, state: Arrays) -> None:
        self.number = number
        self.site = site
        self.state = state

    def feedback(self, fakes: Packed, load: Load, round: int, iteration: int) -> Feedback:
        """L steps of D on the fakes against local images, then dL/dx for the same fakes."""
        gan, site = self.site.gan, self.site
        load_discriminator(site, self.number, self.state)
        images = site.unpack_images(fakes)
        counts = np.bincount(site.labels[site.samples(self.number)], minlength=site.classes)
        labels = conditions(site.config.seed, round, iteration, self.number, counts, len(images))
        steps, losses = load.iterations, []
        with seeded(torch_seed(site.config.seed, round, self.number, f"train {iteration}")):
            for batch in site.indices(self.number, load.batch, round, iteration * steps, steps):
                real = to_images(site.images[batch], gan.device)
                losses.append(gan.discriminator_step(real, images, site.labels[batch], labels))
            gradient, _, loss_g = gan.feedback(images, labels)
        self.state = gan.models([D]) | gan.moments([D])
        loss_d = float(torch.stack(losses).mean())
        return Feedback(self.number, site.pack_images(gradient), NO_SCORES, float(loss_g), loss_d)


def conditions(seed: int, round: int, iteration: int, device: int, counts: np.ndarray, size: int) -> np.ndarray:
    """`size` labels by a device's class counts [C], the same on the server and on the device."""
    rng = generator(seed, round, device, f"conditions {iteration}")
    return rng.choice(len(counts), size, p=counts / counts.sum())


class Server(MdGanServer):
    """The central generator."""

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        super().__init__(site, scheduler)
        self.counts = scheduler.class_counts()

    def iterate(self, fleet: Fleet, loads: dict[int, Load], round: int, iteration: int) -> list[Feedback]:
        """One iteration: fakes to every site, its gradients back, one step of G."""
        with self.site.work(fleet, "generate"):
            fakes = self.draw_for(list(loads), round, iteration)
        futures = [
            fleet.submit(device, "feedback", fleet.share(self.site.pack_images(fakes[device])), load, round, iteration)
            for device, load in loads.items()
        ]
        replies = [reply for reply in collect(fleet, self.site, futures) if self.is_valid(reply, fakes[reply.device])]
        if replies:
            answered = [reply.device for reply in replies]
            shares = self.samples[answered] / self.samples[answered].sum()
            gradients = [
                float(share) * self.site.unpack_images(reply.gradient)
                for share, reply in zip(shares, replies, strict=True)
            ]
            with self.site.work(fleet, "update generator"):
                self.site.gan.follow([fakes[device] for device in answered], gradients)
        return replies

    def draw_for(self, devices: list[int], round: int, iteration: int) -> dict[int, Tensor]:
        """Each device's own fakes [b, C, H, W] for its own conditions, with their graphs."""
        gan, seed, size, fakes = self.site.gan, self.site.config.seed, self.method.batch, {}
        for device in devices:
            labels = conditions(seed, round, iteration, device, self.counts[device], size)
            with seeded(torch_seed(seed, round, device, f"noise {iteration}")):
                fakes[device] = gan.fakes(gan.noise(size), labels)
        return fakes
