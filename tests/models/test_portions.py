"""Discriminators in portions: the paper's counts, operations by hand, and the same network as the whole."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from rayfed.config import Model
from rayfed.models.block import merge, paper_ends
from rayfed.models.gan import GAN
from rayfed.models.networks import ARCHITECTURES
from rayfed.models.portions import blocks, describe, described

BLOCKS = {"lsgan": 5, "dcgan28": 4, "dcgan32": 4, "dcgan64": 5}


def discriminator(name: str, width: int = 8) -> nn.Module:
    return ARCHITECTURES[name].build(1, width, 0)[1]


def test_the_paper_s_three_portions() -> None:
    """FSL-GAN's counts; activations 14x14x64, 7x7x128 and a score."""
    found = described(Model(name="dcgan28"))
    portions = merge(found, paper_ends(len(found)))
    assert [portion.parameters for portion in portions] == [1_664, 204_928, 823_553]
    assert [portion.activation for portion in portions] == [14 * 14 * 64, 7 * 7 * 128, 1]
    assert [portion.name for portion in portions] == ["1 Conv2d", "2 Conv2d", "3 Conv2d + 4 Linear"]


def test_operations_by_hand() -> None:
    """Two per multiply-add; backward once for the weights and, but for the first block, once for the input."""
    forward = [
        2 * 14 * 14 * 64 * 25,
        2 * 7 * 7 * 128 * 64 * 25,
        2 * 4 * 4 * 256 * 128 * 25,
        2 * 4 * 4 * 256,
    ]
    found = described(Model(name="dcgan28"))
    assert [block.flops_forward for block in found] == forward
    assert [block.flops_backward for block in found] == [forward[0], *(2 * flops for flops in forward[1:])]


@pytest.mark.parametrize("name", list(BLOCKS))
def test_blocks_are_the_discriminator_and_share_its_weights(name: str) -> None:
    whole = discriminator(name)
    parts = blocks(whole)
    assert len(parts) == BLOCKS[name]
    assert all(isinstance(block[0], nn.Conv2d | nn.Linear) for block in parts)
    layers = [layer for block in parts for layer in block]
    assert all(one is other for one, other in zip(layers, whole.children(), strict=True))


@pytest.mark.parametrize("name", list(BLOCKS))
def test_portions_one_after_the_other_are_the_discriminator(name: str) -> None:
    """Values and the gradient of the input, which passes from portion to portion as it would between devices."""
    whole = discriminator(name).eval()
    parts, ends = blocks(whole), paper_ends(BLOCKS[name])
    portions = [nn.Sequential(*parts[first:end]) for first, end in pairwise((0, *ends))]
    assert len(portions) == BLOCKS[name] - 1
    side = ARCHITECTURES[name].side
    x = torch.randn(3, 1, side, side, requires_grad=True)
    whole(x).sum().backward()
    inputs, outputs = [], []
    y = x
    for portion in portions:
        inputs.append(y.detach().requires_grad_())
        outputs.append(portion(inputs[-1]))
        y = outputs[-1]
    gradient = torch.ones_like(y)
    for received, handed in zip(reversed(inputs), reversed(outputs), strict=True):
        handed.backward(gradient)
        assert received.grad is not None
        gradient = received.grad
    assert torch.equal(y, whole(x))
    assert x.grad is not None
    assert torch.equal(gradient, x.grad)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_operations_add_up_to_what_a_training_step_is_metered_at(name: str) -> None:
    """A discriminator's step takes as many fakes as real images."""
    config = Model(name=name, width=None if name == "lsgan" else 8)
    gan, side, batch = GAN(config, 1), ARCHITECTURES[name].side, 3
    images = torch.zeros(batch, 1, side, side)
    gan.discriminator_step(images, images)
    per_image = sum(block.flops_forward + block.flops_backward for block in described(config))
    assert 2 * batch * per_image == gan.meter.take()


@pytest.mark.parametrize("name", list(BLOCKS))
def test_describing_touches_nothing(name: str) -> None:
    """Neither weights, statistics, gradients nor torch's generator; a frozen network is described all the same."""
    whole = discriminator(name)
    before, random = copy.deepcopy(whole.state_dict()), torch.get_rng_state()
    side = ARCHITECTURES[name].side
    found = describe(blocks(whole), (1, side, side))
    assert found == describe(blocks(whole.requires_grad_(False)), (1, side, side))
    assert sum(block.parameters for block in found) == sum(p.numel() for p in whole.parameters())
    assert all(torch.equal(value, before[key]) for key, value in whole.state_dict().items())
    assert all(parameter.grad is None for parameter in whole.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_merging_all_blocks_is_the_whole() -> None:
    found = described(Model(name="dcgan64", width=8))
    (whole,) = merge(found, [len(found)])
    assert whole.parameters == sum(block.parameters for block in found)
    assert whole.flops_forward == sum(block.flops_forward for block in found)
    assert whole.activation == 1
