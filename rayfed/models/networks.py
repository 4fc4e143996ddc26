"""Generators and discriminators, each for one image side.

A generator maps z [B, latent] to images [B, C, side, side] in [-1, 1]; a discriminator maps images to one
unbounded score each, [B, 1] (MSE and BCE-with-logits both take it as it is). Conditional networks (`classes` > 0)
take a one-hot label behind z, and one plane per class behind the image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rayfed import plugins
from rayfed.errors import UserError, shown
from rayfed.models.layers import UpsampleConv2d

Pair = tuple[nn.Sequential, nn.Sequential]
"""A generator and a discriminator."""
LATENT = 100
"""Length of z in every published network here."""
BATCH_NORM = nn.modules.batchnorm._BatchNorm
"""What BatchNorm of vectors, of images and of volumes derives from."""


class Shape(nn.Module):
    """Reshape [B, n] to [B, *shape] in channels_last order."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self.shape).contiguous(memory_format=torch.channels_last)


def lsgan(channels: int, width: int, classes: int) -> Pair:
    """FeGAN's LSGAN, 32x32 (section 4); its BatchNorm has eps 0.8 and its widths are fixed."""
    generator = nn.Sequential(
        nn.Linear(LATENT + classes, 128 * 8 * 8),
        Shape(128, 8, 8),
        UpsampleConv2d(128, 128),
        nn.BatchNorm2d(128, 0.8),
        nn.LeakyReLU(0.2, inplace=True),
        UpsampleConv2d(128, 64),
        nn.BatchNorm2d(64, 0.8),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, channels, 3, padding=1),
        nn.Tanh(),
    )

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.Dropout2d(0.25)]

    discriminator = nn.Sequential(
        *block(channels + classes, 16),
        *block(16, 32),
        nn.BatchNorm2d(32, 0.8),
        *block(32, 64),
        nn.BatchNorm2d(64, 0.8),
        *block(64, 128),
        nn.BatchNorm2d(128, 0.8),
        nn.Flatten(),
        nn.Linear(128 * 2 * 2, 1),
    )
    return generator, discriminator


def dcgan28(channels: int, width: int, classes: int) -> Pair:
    """FSL-GAN's DCGAN, 28x28: 5x5 kernels, dropout in D (section IV)."""
    w = width
    generator = nn.Sequential(
        nn.Linear(LATENT + classes, 4 * w * 7 * 7, bias=False),
        nn.BatchNorm1d(4 * w * 7 * 7),
        nn.LeakyReLU(0.2, inplace=True),
        Shape(4 * w, 7, 7),
        nn.ConvTranspose2d(4 * w, 2 * w, 5, 1, 2, bias=False),
        nn.BatchNorm2d(2 * w),
        nn.LeakyReLU(0.2, inplace=True),
        nn.ConvTranspose2d(2 * w, w, 5, 2, 2, output_padding=1, bias=False),
        nn.BatchNorm2d(w),
        nn.LeakyReLU(0.2, inplace=True),
        nn.ConvTranspose2d(w, channels, 5, 2, 2, output_padding=1, bias=False),
        nn.Tanh(),
    )

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 5, 2, 2), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.3)]

    discriminator = nn.Sequential(
        *block(channels + classes, w), *block(w, 2 * w), *block(2 * w, 4 * w), nn.Flatten(), nn.Linear(4 * w * 4 * 4, 1)
    )
    return generator, discriminator


def _radford(channels: int, width: int, classes: int, doublings: int) -> Pair:
    """Radford et al. 2016: 4x4 kernels, stride 2, no biases, no BatchNorm at the image side."""
    w = width
    widest, inputs = w * 2**doublings, LATENT + classes
    up: list[nn.Module] = [Shape(inputs, 1, 1), nn.ConvTranspose2d(inputs, widest, 4, 1, 0, bias=False)]
    down: list[nn.Module] = [nn.Conv2d(channels + classes, w, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for i in range(doublings):
        wide, narrow = widest // 2**i, widest // 2 ** (i + 1)
        up += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True), nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
        down += [nn.Conv2d(w * 2**i, w * 2 ** (i + 1), 4, 2, 1, bias=False), nn.BatchNorm2d(w * 2 ** (i + 1))]
        down += [nn.LeakyReLU(0.2, inplace=True)]
    up += [nn.BatchNorm2d(w), nn.ReLU(inplace=True), nn.ConvTranspose2d(w, channels, 4, 2, 1, bias=False), nn.Tanh()]
    down += [nn.Conv2d(widest, 1, 4, 1, 0, bias=False), nn.Flatten()]
    return nn.Sequential(*up), nn.Sequential(*down)


def dcgan32(channels: int, width: int, classes: int) -> Pair:
    """Radford's DCGAN one doubling shorter, 32x32."""
    return _radford(channels, width, classes, doublings=2)


def dcgan64(channels: int, width: int, classes: int) -> Pair:
    """Radford's DCGAN, 64x64; with 3 channels and width 64, 3,576,704 and 2,765,568 parameters (Ren et al.)."""
    return _radford(channels, width, classes, doublings=3)


@dataclass(frozen=True)
class Architecture:
    """A pair of networks: how to build them, the image side they take, the loss they were published with.

    `build(channels, width, classes)` gives an untrained generator and discriminator; `loss` is one of LOSSES.
    """

    build: Callable[[int, int, int], Pair]
    side: int
    loss: str


LOSSES = ("mse", "bce")
ARCHITECTURES = {
    "lsgan": Architecture(lsgan, 32, "mse"),
    "dcgan28": Architecture(dcgan28, 28, "bce"),
    "dcgan32": Architecture(dcgan32, 32, "bce"),
    "dcgan64": Architecture(dcgan64, 64, "bce"),
}


def architecture(name: str) -> Architecture:
    """The networks of `model.name`: one of ours, or an Architecture by its dotted name.

    Raises UserError with the real cause for one that there is not, or that cannot be one.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    found = plugins.load_object("model.name", name)
    if not isinstance(found, Architecture):
        kind = type(found).__name__
        raise UserError(f"model.name = {shown(name)}: is a {kind}; it must be a rayfed.models.networks.Architecture")
    if not callable(found.build):
        raise UserError(
            f"model.name = {shown(name)}: its build is a {type(found.build).__name__}; it must be a function"
        )
    if not isinstance(found.side, int) or found.side < 1:
        raise UserError(f"model.name = {shown(name)}: its side is {found.side!r}; it must be a number of pixels")
    if found.loss not in LOSSES:
        raise UserError(
            f"model.name = {shown(name)}: its loss is {found.loss!r}; it must be one of {', '.join(LOSSES)}"
        )
    return found


def build(name: str, channels: int, width: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """The untrained networks of `model.name`; those that are not ours are tried on two images first.

    Raises UserError for what is not a generator and a discriminator of such images.
    """
    pair = architecture(name)
    if name in ARCHITECTURES:
        return pair.build(channels, width, classes)
    called = f"model.name = {shown(name)}: build(channels={channels}, width={width}, classes={classes})"
    try:
        networks = pair.build(channels, width, classes)
    except Exception as error:  # somebody else's code can raise anything
        raise UserError(f"{called} raises {plugins.cause(error)}") from None
    if not isinstance(networks, tuple) or [isinstance(each, nn.Module) for each in networks] != [True, True]:
        raise UserError(f"{called} gives no pair; it must give (generator, discriminator), two torch.nn.Modules")
    images = (2, channels, pair.side, pair.side)
    _try(f"{called}: its generator", networks[0], (2, LATENT + classes), images)
    _try(f"{called}: its discriminator", networks[1], (2, channels + classes, *images[2:]), (2, 1))
    return networks


@torch.no_grad()
def _try(whose: str, network: nn.Module, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse a network that does not make `wanted` of `given`, laid out as in training."""
    layout = torch.channels_last if len(given) == 4 else torch.contiguous_format
    try:
        made = network.to(memory_format=torch.channels_last).eval()(torch.zeros(given).to(memory_format=layout))
    except Exception as error:
        raise UserError(f"{whose} raises {plugins.cause(error)} on float32 {list(given)}") from None
    shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
    if shape != wanted:
        text = list(shape) if isinstance(shape, tuple) else f"a {shape}"
        raise UserError(f"{whose} makes {text} of {list(given)}; it must make {list(wanted)}")
    network.train()


def has_batch_norm(network: nn.Module, kind: type[nn.Module] = BATCH_NORM) -> bool:
    """Whether a network has BatchNorm (of this kind): each image's gradient depends on all images of the batch."""
    return any(isinstance(layer, kind) for layer in network.modules())


def initialise(module: nn.Module) -> None:
    """Radford et al.: weights N(0, 0.02), BatchNorm weights N(1, 0.02), biases 0, from torch's global generator.

    BatchNorm's statistics begin again.
    """
    for layer in module.modules():
        if isinstance(layer, BATCH_NORM):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
            layer.reset_running_stats()
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
