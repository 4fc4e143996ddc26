"""A network as a sequence of blocks, and as portions that different devices hold (FSL-GAN, section 3)."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from rayfed.config import Model
from rayfed.errors import UserError
from rayfed.models.block import Block
from rayfed.models.flops import counted
from rayfed.models.gan import WIDTH
from rayfed.models.networks import architecture


def described(config: Model, channels: int = 1) -> list[Block]:
    """What the blocks of a configuration's discriminator need, for images of so many channels."""
    side = architecture(config.name).side
    return describe(blocks(splittable(config, channels)), (channels, side, side))


def splittable(config: Model, channels: int) -> nn.Sequential:
    """A configuration's discriminator for images of so many channels, without weights: on torch's meta device.

    Raises UserError for one that cannot be split.
    """
    pair = architecture(config.name)
    with torch.device("meta"):
        _, discriminator = pair.build(channels, config.width or WIDTH, 0)
    if not isinstance(discriminator, nn.Sequential):
        kind = type(discriminator).__name__
        raise UserError(f"model.name = {config.name!r}: its discriminator is a {kind}; only a Sequential can be split")
    return discriminator


def blocks(network: nn.Module) -> list[nn.Sequential]:
    """The blocks of a network, an nn.Sequential, in order, sharing its modules.

    A block begins at each convolution and each linear layer and takes what follows up to the next one; what comes
    before the first of them is in the first block.
    """
    found: list[nn.Sequential] = []
    for layer in network.children():
        if not found or (_computes(layer) and any(map(_computes, found[-1]))):
            found.append(nn.Sequential())
        found[-1].append(layer)
    return found


def _computes(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)


def describe(blocks: Sequence[nn.Sequential], image_shape: tuple[int, int, int]) -> list[Block]:
    """What each block needs in a training step on images of `image_shape` (C, H, W).

    Operations as FlopCounterMode counts them: convolutions and matrix products. The backward pass gives the gradient of
    the block's parameters and, but for the first block, of its input. Nothing is computed and no weight is touched:
    copies run on torch's meta device.
    """
    x = torch.empty(1, *image_shape, device="meta")
    described = []
    for number, original in enumerate(blocks, 1):
        block = copy.deepcopy(original).to("meta").eval().requires_grad_(True)  # BatchNorm trains on no single vector
        with counted() as forward:
            y = block(x)
        with counted() as backward:
            y.backward(torch.empty_like(y))
        block.requires_grad_(False)
        frozen = block(x.detach().requires_grad_())
        with counted() as through:
            frozen.backward(torch.empty_like(frozen))
        described.append(
            Block(
                name=f"{number} {type(block[0]).__name__}",
                parameters=sum(parameter.numel() for parameter in block.parameters()),
                activation=y.numel(),
                flops_forward=forward.flops,
                flops_backward=backward.flops,
                flops_input=through.flops,
            )
        )
        x = y.detach().requires_grad_()
    return described
