"""IoTSL's conditional WGAN-GP for grey images of 28x28 (Feng et al. 2023, sections IV-D and V-D).

The networks are those of GS-WGAN (Chen et al. 2020). The critic never leaves its device; what the generator learns
from it passes through the caller's `sanitise`.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from rayfed.models import flat
from rayfed.models.flops import Meter
from rayfed.models.gan import seeded
from rayfed.models.networks import Shape
from rayfed.models.trained import Networks

SIDE = 28
LATENT = 10
"""Bernoulli values in z: a generator knows at most 2**10 different images of a class."""
WIDTH = 64
"""Channels of the critic's first convolution, as published."""
LR = 1e-4
"""As published."""
BETAS = (0.5, 0.9)
PENALTY = 10.0
"""Lambda of formula (6)."""
LAYOUT = torch.channels_last

Batch = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [B, 1, 28, 28], and their labels, int [B]."""
Sanitise = Callable[[Tensor], Tensor]
"""What takes dL_G/dG(z|y) [B, 1, 28, 28] and gives what of it the generator may learn from."""


class PixelNorm(nn.Module):
    """Divide each pixel of [B, C, H, W] by the root mean square of its channels (Karras et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class Crop(nn.Module):
    """The upper left `side` x `side` pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : self.side, : self.side]


def generator(classes: int, width: int = WIDTH) -> nn.Sequential:
    """z and a one-hot label [B, 10 + classes] to images [B, 1, 28, 28] in [0, 1]: sides 4, 8 cropped to 7, 11, 28."""
    w = width
    return nn.Sequential(
        nn.Linear(LATENT + classes, 4 * w * 4 * 4),
        Shape(4 * w, 4, 4),
        nn.ReLU(inplace=True),
        PixelNorm(),
        nn.ConvTranspose2d(4 * w, 2 * w, 5),
        Crop(7),
        nn.ReLU(),
        PixelNorm(),
        nn.ConvTranspose2d(2 * w, w, 5),
        nn.ReLU(inplace=True),
        PixelNorm(),
        nn.ConvTranspose2d(w, 1, 8, 2),
        nn.Sigmoid(),
    )


def critic(classes: int, width: int = WIDTH) -> nn.Sequential:
    """An image and its label as one plane per class [B, 1 + classes, 28, 28] to a score [B, 1]: sides 14, 7, 4."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [spectral_norm(nn.Conv2d(inputs, outputs, 5, 2, 2)), nn.ReLU(inplace=True)]

    w = width
    return nn.Sequential(
        *block(1 + classes, w),
        *block(w, 2 * w),
        *block(2 * w, 4 * w),
        nn.Flatten(),
        spectral_norm(nn.Linear(4 * w * 4 * 4, 1)),
    )


class ConditionalGAN(Networks):
    """A workspace: a generator, its critic and their Adams, loaded with a device's weights when it is its turn.

    The critic's vector holds the vectors u and v of spectral normalisation too, which each of its steps refines.
    Whatever is drawn comes from the caller's `torch.Generator` of the CPU, so that every processor draws the same.
    """

    def __init__(self, classes: int, width: int = WIDTH, device: str = "cpu", lr: float = LR) -> None:
        self.classes = classes
        self.width = width
        self.device = torch.device(device)
        self.generator = generator(classes, width).to(self.device, memory_format=LAYOUT)  # type: ignore[call-overload]
        self.critic = critic(classes, width).to(self.device, memory_format=LAYOUT)  # type: ignore[call-overload]
        super().__init__({"generator": self.generator, "critic": self.critic}, lr, BETAS)
        self.load_optimizer_state(None)
        self.meter = Meter()

    def initialise(self, seed: int) -> None:
        """Draw fresh weights from `seed`, as torch's layers begin."""
        with seeded(seed):
            fresh = {"generator": generator(self.classes, self.width), "critic": critic(self.classes, self.width)}
        self.load_models({name: flat.module_to_vector(network) for name, network in fresh.items()})

    def step(self, batches: Iterable[Batch], labels: np.ndarray, draws: torch.Generator, sanitise: Sanitise) -> Tensor:
        """A step of the critic on each batch, then one of the generator on `labels`; the losses [2] of G and D.

        D's is the mean over the batches.
        """
        losses = [self.critic_step(images, real_labels, draws) for images, real_labels in batches]
        return torch.stack((self.generator_step(labels, draws, sanitise), torch.stack(losses).mean()))

    def critic_step(self, images: np.ndarray, labels: np.ndarray, draws: torch.Generator) -> Tensor:
        """Update the critic by loss (6) on a batch and as many fakes of the same labels; the loss."""
        x = torch.from_numpy(images).to(self.device, torch.float32).div_(255)
        z = self._noise(labels, draws)
        alpha = torch.rand(len(x), 1, 1, 1, generator=draws).to(self.device)
        with self.meter.measure("critic step", len(x)):
            with torch.no_grad():
                fakes = self.generator(z)
            mixed = (alpha * x + (1 - alpha) * fakes).requires_grad_()
            (slopes,) = torch.autograd.grad(self.scores(mixed, labels).sum(), mixed, create_graph=True)
            penalty = (torch.linalg.vector_norm(slopes.flatten(1), dim=1) - 1).square().mean()
            false, true = self.scores(torch.cat((fakes, x)), np.concatenate((labels, labels))).chunk(2)
            loss: Tensor = false.mean() - true.mean() + PENALTY * penalty
            self.optimizers["critic"].zero_grad()
            loss.backward()
            self.optimizers["critic"].step()
        return loss.detach()

    def generator_step(self, labels: np.ndarray, draws: torch.Generator, sanitise: Sanitise) -> Tensor:
        """Update the generator by loss (7) on `labels` [B], through `sanitise` (formula 5); the loss."""
        z = self._noise(labels, draws)
        with self.meter.measure("generator step", len(labels)):
            fakes = self.generator(z)
            images = fakes.detach().requires_grad_()
            loss = -self.scores(images, labels).mean()
            (gradient,) = torch.autograd.grad(loss, images)
            self.optimizers["generator"].zero_grad()
            fakes.backward(sanitise(gradient))
            self.optimizers["generator"].step()
        return loss.detach()

    def scores(self, images: Tensor, labels: np.ndarray) -> Tensor:
        """D(x|y) [B, 1] of images [B, 1, 28, 28] in [0, 1]."""
        planes = self._one_hot(labels)[:, :, None, None].expand(-1, -1, SIDE, SIDE)
        scores: Tensor = self.critic(torch.cat((images, planes), 1).contiguous(memory_format=LAYOUT))
        return scores

    @torch.no_grad()
    def generate(self, labels: np.ndarray, seed: int, batch: int = 250) -> np.ndarray:
        """An image of each label [n], uint8 [n, 1, 28, 28], from noise keyed by `seed`."""
        z = self._noise(labels, torch.Generator().manual_seed(seed))
        images = torch.cat([self.generator(part) for part in z.split(batch)])
        return images.mul(255).round().to(torch.uint8).cpu().numpy()

    def _noise(self, labels: np.ndarray, draws: torch.Generator) -> Tensor:
        """z and the one-hot labels [B, 10 + classes]."""
        z = torch.randint(2, (len(labels), LATENT), generator=draws).to(self.device, torch.float32)
        return torch.cat((z, self._one_hot(labels)), 1)

    def _one_hot(self, labels: np.ndarray) -> Tensor:
        return F.one_hot(torch.from_numpy(labels).long(), self.classes).to(self.device, torch.float32)
