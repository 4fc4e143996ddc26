"""Classifiers that can be cut in two: one score per class for images [B, C, side, side] in [-1, 1]."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from rayfed import plugins
from rayfed.errors import UserError, shown

Weighted = nn.Conv2d | nn.Linear
"""The layers that a cut counts."""


@dataclass(frozen=True)
class Classifier:
    """How to build a network of one score per class: `build(channels, width, classes)`, for images of this side."""

    build: Callable[[int, int, int], nn.Sequential]
    side: int
    width: int
    """Channels of the first convolution as published."""


def vgg16(channels: int, width: int, classes: int) -> nn.Sequential:
    """VGG-16 (Simonyan and Zisserman 2015, configuration D) for 28x28, as IoTSL cuts it (section V-C).

    Each of the 13 convolutions is normalised, which the paper's 37,824 parameters of the first two show. GroupNorm
    has BatchNorm's parameters and no statistics, which would have to travel too, and which a device that has but some
    of the classes would spoil. Four of the five poolings leave one pixel; one dense layer follows.
    """
    layers: list[nn.Module] = []
    for count, factor in ((2, 1), (2, 2), (3, 4), (3, 8)):
        for _ in range(count):
            layers += _normalised(channels, width * factor)
            channels = width * factor
        layers.append(nn.MaxPool2d(2))
    for _ in range(3):
        layers += _normalised(channels, channels)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, classes))


def _normalised(inputs: int, outputs: int) -> list[nn.Module]:
    norm = nn.GroupNorm(math.gcd(outputs, 32), outputs)
    return [nn.Conv2d(inputs, outputs, 3, padding=1), norm, nn.ReLU(inplace=True)]


def cnn5(channels: int, width: int, classes: int) -> nn.Sequential:
    """Five convolutions and a dense layer for 28x28, like the network of IoTSL's section III (Fig. 4)."""
    widths = (channels, width, width, 2 * width, 4 * width, 4 * width)
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(widths), 1):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
        if number in (2, 3, 5):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * 3 * 3, classes))


CLASSIFIERS = {"vgg16": Classifier(vgg16, 28, 64), "cnn5": Classifier(cnn5, 28, 16)}


def classifier(name: str) -> Classifier:
    """The classifier of `model.name`: one of ours, or a Classifier by its dotted name.

    Raises UserError for one that there is not.
    """
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    found = plugins.load_object("model.name", name) if ":" in name else None
    if not isinstance(found, Classifier):
        raise UserError(
            f"model.name = {shown(name)}: is no classifier; it must be one of {', '.join(CLASSIFIERS)}, or "
            "package.module:CLASSIFIER"
        )
    return found


def cut(network: nn.Sequential, layers: int) -> tuple[nn.Sequential, nn.Sequential]:
    """f_a, the first so many layers with weights and what follows each (normalisation, activation, pooling), and f_b.

    Raises UserError for a cut that is not inside the network.
    """
    starts = [index for index, layer in enumerate(network) if isinstance(layer, Weighted)]
    if not 1 <= layers < len(starts):
        raise UserError(
            f"method.cut = {layers}: is outside the network, which has {len(starts)} layers with weights; "
            f"it must be 1 to {len(starts) - 1}"
        )
    return network[: starts[layers]], network[starts[layers] :]


def initialise(network: nn.Module) -> None:
    """He et al. 2015: weights for ReLU, biases 0, from torch's global generator."""
    for layer in network.modules():
        if isinstance(layer, Weighted):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.GroupNorm):
            layer.reset_parameters()
