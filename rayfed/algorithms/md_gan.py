"""MD-GAN (Hardy, Le Merrer, Sericola: "MD-GAN: Multi-Discriminator Generative Adversarial Networks for Distributed
Datasets", IPDPS 2019), and F2U and F2A (Yonetani et al. 2019) in its layout.

One generator on the server, a discriminator on every device that never leaves it but for swaps. Per iteration the
server draws k batches of images; device n trains its D for L steps on X_d and answers X_g with F_n = dL/dx; the
generator follows the devices' feedback. A round is `iterations` of these. MD-GAN takes the mean over devices; F2U
takes, image by image, the feedback of the device that finds the image most real; F2A the mean with weights
softmax(lambda D_n(x)).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rayfed.algorithms.common import Report, Scheduler, State, collect, is_valid
from rayfed.algorithms.site import Site
from rayfed.config import F2A, CentralGenerator, MdGan
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.models.gan import seeded, to_images
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, generator, torch_seed

D, G = "discriminator", "generator"
NO_SCORES = np.empty(0, np.float32)


@dataclass(frozen=True)
class Feedback:
    """A device's reply: F_n for X_g, D_n(x) of each image [b] where the rule asks for it, the losses of G and D."""

    device: int
    gradient: Packed
    scores: np.ndarray
    loss_g: float
    loss_d: float


class Device:
    """The worker. It owns its discriminator and that one's Adam moments."""

    sends_scores = False

    def __init__(self, number: int, site: Site, state: Arrays) -> None:
        self.number = number
        self.site = site
        self.state = state

    def feedback(self, fakes_d: Packed, fakes_g: Packed, load: Load, round: int, iteration: int) -> Feedback:
        """L steps of D against X_d, each on a fresh local batch, then F_n and the scores for X_g."""
        gan, site = self.site.gan, self.site
        load_discriminator(site, self.number, self.state)
        fakes = site.unpack_images(fakes_d)
        steps = load.iterations
        losses = []
        with seeded(torch_seed(site.config.seed, round, self.number, f"train {iteration}")):
            for batch in site.indices(self.number, load.batch, round, iteration * steps, steps):
                losses.append(gan.discriminator_step(to_images(site.images[batch], gan.device), fakes))
            gradient, scores, loss = gan.feedback(site.unpack_images(fakes_g))
        self.state = gan.models([D]) | gan.moments([D])
        sent = scores.cpu().numpy() if self.sends_scores else NO_SCORES
        return Feedback(self.number, site.pack_images(gradient), sent, float(loss), float(torch.stack(losses).mean()))

    def give(self) -> Packed:
        """The discriminator, on its way to another device."""
        load_discriminator(self.site, self.number, self.state)
        return self.site.codecs[D].encode(self.site.gan.models([D]))

    def take(self, discriminator: Packed) -> None:
        """Another device's discriminator replaces this one's; the moments stay."""
        load_discriminator(self.site, self.number, self.state)
        self.state = self.site.codecs[D].decode(discriminator) | self.site.gan.moments([D])


class ScoringDevice(Device):
    """F2U's and F2A's worker also says how real it finds each image."""

    sends_scores = True


def load_discriminator(site: Site, device: int, state: Arrays) -> None:
    """Load a device's discriminator and moments; before its first turn, fresh ones keyed by the device."""
    gan = site.gan
    if state:
        gan.load_models({D: state[D]})
    else:
        gan.initialise(torch_seed(site.config.seed, 0, device, "weights"))
    gan.load_moments(state or None, [D])


class Server:
    """The server of MD-GAN (Algorithm 1 of the paper)."""

    uses_scores = False

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        self.site = site
        self.scheduler = scheduler
        assert isinstance(site.config.method, CentralGenerator)
        self.method = site.config.method
        self.devices = list(range(site.config.devices.count))
        self.samples = scheduler.class_counts().sum(axis=1)

    def init(self) -> State:
        """A fresh generator, its moments at zero."""
        gan = self.site.gan
        gan.initialise(torch_seed(self.site.config.seed, 0, SERVER, "weights"))
        gan.load_moments(None, [G])
        return State(0, gan.models([G]) | gan.moments([G]), {"sampler": self.scheduler.start()})

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """`iterations` global iterations, and swaps when they are due; without any reply G stays as it is."""
        round, gan = state.round + 1, self.site.gan
        gan.load_models({G: state.arrays[G]})
        gan.load_moments(state.arrays, [G])
        group, sampler = self.scheduler.select(round, state.facts["sampler"])
        group = sorted(group)
        loads = dict(zip(group, self.scheduler.loads(group), strict=True))
        replies: list[Feedback] = []
        for iteration in range(self.method.iterations):
            replies += self.iterate(fleet, loads, round, iteration)
            if self.swap_is_due((round - 1) * self.method.iterations + iteration + 1):
                swap(fleet, group, generator(self.site.config.seed, round, SERVER, f"swap {iteration}"))
        arrays = gan.models([G]) | gan.moments([G]) if replies else state.arrays
        return State(round, arrays, {"sampler": sampler}), reports(replies, loads)

    def iterate(self, fleet: Fleet, loads: dict[int, Load], round: int, iteration: int) -> list[Feedback]:
        """One global iteration: k batches out, feedback in, one step of G."""
        gan, k = self.site.gan, self.method.distinct_batches(len(self.devices))
        with self.site.work(fleet, "generate"):
            fakes = self.draw(max(k, 2), round, iteration)
        handles = [fleet.share(self.site.pack_images(images)) for images in fakes]
        futures = [
            fleet.submit(n, "feedback", handles[(n % k + 1) % len(fakes)], handles[n % k], load, round, iteration)
            for n, load in loads.items()
        ]
        replies = [reply for reply in collect(fleet, self.site, futures) if self.is_valid(reply, fakes[0])]
        if replies:
            with self.site.work(fleet, "update generator"):
                gan.follow(fakes[:k], self.gradients(replies, fakes[:k]))
        return replies

    def draw(self, count: int, round: int, iteration: int) -> list[Tensor]:
        """`count` batches [b, C, H, W] from as many draws of noise, with their graphs."""
        with seeded(torch_seed(self.site.config.seed, round, SERVER, f"noise {iteration}")):
            return [self.site.gan.fakes(self.site.gan.noise(self.method.batch)) for _ in range(count)]

    def gradients(self, replies: list[Feedback], fakes: list[Tensor]) -> list[Tensor]:
        """dL/dx of each of the k batches: the devices' feedback on it, weighted image by image, in device order."""
        totals = [torch.zeros_like(images, memory_format=torch.channels_last) for images in fakes]
        for reply, weights in zip(replies, self.weights(replies), strict=True):
            column = torch.from_numpy(weights).to(self.site.gan.device).view(-1, 1, 1, 1)
            totals[reply.device % len(fakes)] += column * self.site.unpack_images(reply.gradient)
        return totals

    def weights(self, replies: list[Feedback]) -> np.ndarray:
        """MD-GAN: 1 / N for each of N devices and every image, float32 [N, b]."""
        return np.full((len(replies), self.method.batch), 1 / len(replies), np.float32)

    def swap_is_due(self, iteration: int) -> bool:
        """Whether `swap_epochs` local epochs of a device of mean size end with this iteration, counted from 1.

        An iteration takes L batches of a device's images.
        """
        if not isinstance(self.method, MdGan) or not self.method.swaps:
            return False
        epoch = self.samples.mean() / (self.method.batch * self.method.d_steps)
        period = max(1, round(self.method.swap_epochs * epoch))
        return iteration % period == 0

    def is_valid(self, reply: Feedback, images: Tensor) -> bool:
        """Whether a reply is finite feedback for images like these."""
        codec = self.site.image_codec(images.numel())
        scored = reply.scores.shape == ((len(images),) if self.uses_scores else (0,))
        return is_valid(reply.gradient, codec) and scored and bool(np.isfinite(reply.scores).all())


class F2UServer(Server):
    """Forgiver-first update: per image, only the discriminator that finds it most real counts."""

    uses_scores = True

    def weights(self, replies: list[Feedback]) -> np.ndarray:
        """One-hot over devices, float32 [N, b]; the lowest device wins a tie."""
        scores = np.stack([reply.scores for reply in replies])
        return (np.arange(len(replies))[:, None] == scores.argmax(axis=0)).astype(np.float32)


class F2AServer(Server):
    """Forgiver-first aggregation: the more real a discriminator finds an image, the more it counts."""

    uses_scores = True

    def weights(self, replies: list[Feedback]) -> np.ndarray:
        """softmax over devices of lambda D_n(x), float32 [N, b]; lambda 0 is the mean."""
        assert isinstance(self.method, F2A)
        scores = self.method.forgiveness * np.stack([reply.scores for reply in replies])
        weights = np.exp(scores - scores.max(axis=0))
        return (weights / weights.sum(axis=0)).astype(np.float32)


def swap(fleet: Fleet, group: list[int], rng: np.random.Generator) -> None:
    """Each device's discriminator moves to another device: a random permutation in which nobody keeps its own."""
    if len(group) < 2:
        return
    given = [fleet.submit(device, "give") for device in group]
    for source, target in enumerate(derangement(len(group), rng)):
        fleet.submit(group[target], "take", given[source])


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """A uniform permutation of 0..count-1 without fixed points; count must be at least 2."""
    while True:
        order = rng.permutation(count)
        if not (order == np.arange(count)).any():
            return order


def reports(replies: list[Feedback], loads: dict[int, Load]) -> list[Report]:
    """One report per device over a round's replies."""
    found = []
    for device, load in loads.items():
        mine = [reply for reply in replies if reply.device == device]
        if mine:
            loss_g, loss_d = (float(np.mean([getattr(reply, name) for reply in mine])) for name in ("loss_g", "loss_d"))
            found.append(Report(device, load.images * len(mine), loss_g, loss_d))
    return found
