"""A small DCGAN for images of 16x16 pixels."""

from torch import nn

from rayfed.models.networks import LATENT, Architecture


def build(channels: int, width: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """G of noise [B, LATENT + classes], and D of images [B, channels + classes, 16, 16], both untrained."""
    w = width
    generator = nn.Sequential(
        nn.Linear(LATENT + classes, 2 * w * 4 * 4),
        nn.ReLU(),
        nn.Unflatten(1, (2 * w, 4, 4)),
        nn.ConvTranspose2d(2 * w, w, 4, stride=2, padding=1),
        nn.BatchNorm2d(w),
        nn.ReLU(),
        nn.ConvTranspose2d(w, channels, 4, stride=2, padding=1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(channels + classes, w, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(w, 2 * w, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * w * 4 * 4, 1),
    )
    return generator, discriminator


PAIR = Architecture(build, side=16, loss="bce")
