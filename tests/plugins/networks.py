"""Pairs of networks as somebody might write them for `model.name`: two that are right, and each thing that is wrong."""

from dataclasses import replace

from torch import Tensor, nn

from rayfed.models.networks import LATENT, Architecture

SIDE = 8


def build(channels: int, width: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """One layer each."""
    generator = nn.Sequential(nn.Linear(LATENT + classes, channels * SIDE**2), nn.Unflatten(1, (channels, SIDE, SIDE)))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear((channels + classes) * SIDE**2, 1))


def build_normed(channels: int, width: int, classes: int) -> tuple[nn.Module, nn.Module]:
    """BatchNorm over the vectors of both."""
    generator = nn.Sequential(
        nn.Linear(LATENT + classes, width),
        nn.BatchNorm1d(width),
        nn.Linear(width, channels * SIDE**2),
        nn.Unflatten(1, (channels, SIDE, SIDE)),
    )
    pixels = (channels + classes) * SIDE**2
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 1)
    )
    return generator, discriminator


def _generator(network: nn.Module) -> Architecture:
    return Architecture(lambda *sizes: (network, build(*sizes)[1]), SIDE, "bce")


def _discriminator(network: nn.Module) -> Architecture:
    return Architecture(lambda *sizes: (build(*sizes)[0], network), SIDE, "bce")


class _Twice(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


GOOD = Architecture(build, SIDE, "mse")
NORMED = Architecture(build_normed, SIDE, "bce")
NO_FUNCTION = replace(GOOD, build=None)  # type: ignore[arg-type]
NO_SIDE = replace(GOOD, side=0)
NO_LOSS = replace(GOOD, loss="wasserstein")
RAISES = replace(GOOD, build=lambda channels, width, classes: 1 // 0)  # type: ignore[arg-type,return-value]
ONE_NETWORK = replace(GOOD, build=lambda *sizes: build(*sizes)[0])  # type: ignore[arg-type,return-value]
THREE_NETWORKS = replace(GOOD, build=lambda *sizes: (*build(*sizes), None))  # type: ignore[arg-type,return-value]
OTHER_SIDE = replace(GOOD, side=9)
ONE_CHANNEL = replace(GOOD, build=lambda channels, width, classes: build(1, width, classes))
WITHOUT_CLASSES = replace(GOOD, build=lambda channels, width, classes: build(channels, width, 0))
TWO_SCORES = _discriminator(nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 2)))
TWO_TENSORS = _generator(_Twice())
IN_A_LIST = _discriminator(nn.ModuleList())
