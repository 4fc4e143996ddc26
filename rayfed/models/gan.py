"""One generator against one discriminator on one processor: the training steps that every method builds on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.config import Model, RunConfig
from rayfed.errors import UserError
from rayfed.models.flops import Meter
from rayfed.models.networks import LATENT, architecture, build, has_batch_norm, initialise
from rayfed.models.trained import Networks

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}
WIDTH = 64
"""ngf = ndf of the published DCGANs."""
BOTH = ("generator", "discriminator")


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def to_images(batch: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] to float32 in [-1, 1], channels_last."""
    x = torch.from_numpy(batch).to(device)
    return x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def to_uint8(x: Tensor) -> np.ndarray:
    """float [B, C, H, W] in [-1, 1] to uint8."""
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).contiguous().cpu().numpy()


def gan_of(config: RunConfig, channels: int, classes: int, device: str = "cpu") -> "GAN":
    """The GAN of a run on a data set of so many channels and classes; conditional if the method is.

    Raises UserError for networks that do not build, or cannot train on batches as small as the method's.
    """
    gan = GAN(config.model, channels, device, classes if config.method.conditional else 0)
    if config.method.batch < 2 and any(has_batch_norm(network, nn.BatchNorm1d) for network in gan.networks.values()):
        raise UserError(
            f"method.batch = {config.method.batch}: {config.model.name}'s BatchNorm over vectors needs at least 2 "
            "images in a batch"
        )
    return gan


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generators hold `seed` in this block and what they held before after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class GAN(Networks):
    """A workspace: networks and optimizers that are loaded with a device's weights when it is that device's turn.

    With `classes` the networks are conditional: G gets z and a one-hot label, D an image and its label as one plane
    per class. Labels are then int [B]; without, they are None.
    """

    def __init__(self, config: Model, channels: int, device: str = "cpu", classes: int = 0) -> None:
        pair = architecture(config.name)
        self.device = torch.device(device)
        self.classes = classes
        self.generator, self.discriminator = (
            network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for network in build(config.name, channels, config.width or WIDTH, classes)
        )
        self.loss = LOSSES[config.loss or pair.loss]
        self.bf16 = config.precision == "bf16"
        self.config = config
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        super().__init__(networks, config.lr, (config.beta1, config.beta2))
        self.meter = Meter()

    @property
    def latent(self) -> int:
        """Length of the generator's input."""
        return LATENT + self.classes

    def initialise(self, seed: int) -> None:
        """Draw fresh weights from `seed`."""
        with seeded(seed):
            for network in self.networks.values():
                initialise(network)

    def train(self, batches: Iterable[np.ndarray], seed: int) -> tuple[float, float]:
        """One step of G and of D per uint8 batch [B, C, H, W]; the mean losses (G, D).

        Latent vectors and dropout are drawn from `seed`, whatever torch's global generators hold.
        """
        with seeded(seed):
            losses = torch.stack([self.step(to_images(batch, self.device)) for batch in batches])
        loss_g, loss_d = losses.mean(dim=0).tolist()
        return loss_g, loss_d

    def step(self, real: Tensor) -> Tensor:
        """FeGAN's local iteration on real images [B, C, H, W] in [-1, 1]: losses [2] of G and D.

        One draw of z serves both: G on loss(D(G(z)), 1), then D on the mean of loss(D(x), 1) and loss(D(G(z)), 0).
        """
        fakes = self.fakes(self.noise(len(real)))
        loss_g = self.generator_step(fakes)
        loss_d = self.discriminator_step(real, fakes.detach())
        return torch.stack((loss_g, loss_d))

    def noise(self, count: int) -> Tensor:
        """z [count, LATENT] from torch's global generator of the CPU, so that every processor draws the same."""
        return torch.randn(count, LATENT).to(self.device)

    def fakes(self, z: Tensor, labels: np.ndarray | None = None) -> Tensor:
        """G(z), float32 [B, C, H, W], in training mode and with its graph."""
        self.generator.train()
        with self.meter.measure("fakes", len(z)), self._autocast():
            images: Tensor = self.generator(self._conditioned(z, labels))
        return images.float()

    def generator_step(self, fakes: Tensor, labels: np.ndarray | None = None) -> Tensor:
        """Update G on loss(D(fakes), 1), through the graph of `fakes`; the loss."""
        self.discriminator.requires_grad_(False)
        with self.meter.measure("generator step", len(fakes)):
            loss = self.loss(self.scores(fakes, labels), torch.ones(len(fakes), 1, device=self.device))
            self._update("generator", loss)
        return loss.detach()

    def discriminator_step(
        self, real: Tensor, fakes: Tensor, real_labels: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> Tensor:
        """Update D on the mean of loss(D(real), 1) and loss(D(fakes), 0), fakes without a graph; the loss."""
        self.discriminator.requires_grad_(True)
        with self.meter.measure("discriminator step", len(real), len(fakes)):
            score_real, score_fake = self.scores(real, real_labels), self.scores(fakes, labels)
            loss = self.loss(score_real, torch.ones_like(score_real))
            loss = (loss + self.loss(score_fake, torch.zeros_like(score_fake))) / 2
            self._update("discriminator", loss)
        return loss.detach()

    def feedback(self, fakes: Tensor, labels: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What a discriminator tells a generator elsewhere (MD-GAN): dL/dx [B, C, H, W], D(x) [B], L.

        L = loss(D(x), 1), the mean over the batch.
        """
        self.discriminator.requires_grad_(False)
        x = fakes.detach().requires_grad_(True)
        with self.meter.measure("feedback", len(x)):
            scores = self.scores(x, labels)
            loss = self.loss(scores, torch.ones_like(scores))
            loss.backward()
        assert x.grad is not None
        return x.grad, scores.detach().flatten(), loss.detach()

    def follow(self, fakes: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Update G by dL/dx [B, C, H, W] of each of its batches."""
        with self.meter.measure("follow", *map(len, fakes)):
            optimizer = self.optimizers["generator"]
            optimizer.zero_grad()
            torch.autograd.backward(list(fakes), list(gradients))
            optimizer.step()

    def scores(self, images: Tensor, labels: np.ndarray | None = None) -> Tensor:
        """D(x), float32 [B, 1], in training mode."""
        self.discriminator.train()
        if self.classes:
            planes = self._one_hot(labels)[:, :, None, None].expand(-1, -1, *images.shape[2:])
            images = torch.cat((images, planes), 1).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            scores: Tensor = self.discriminator(images)
        return scores.float()

    def _conditioned(self, z: Tensor, labels: np.ndarray | None) -> Tensor:
        return torch.cat((z, self._one_hot(labels)), 1) if self.classes else z

    def _one_hot(self, labels: np.ndarray | None) -> Tensor:
        assert labels is not None
        return F.one_hot(torch.from_numpy(labels).long(), self.classes).to(self.device, torch.float32)

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @torch.inference_mode()
    def generate(self, count: int, seed: int, batch: int = 250) -> np.ndarray:
        """`count` images, uint8 [count, C, H, W], from the generator in evaluation mode and noise keyed by `seed`.

        A conditional generator is asked for every class in turn.
        """
        self.generator.eval()
        noise = torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed)).to(self.device)
        inputs = self._conditioned(noise, np.arange(count) % max(1, self.classes))
        return np.concatenate([to_uint8(self.generator(z)) for z in inputs.split(batch)])
