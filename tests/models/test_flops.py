"""Operations by hand, two per multiply-add."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rayfed.config import Model
from rayfed.models.flops import Meter, counted
from rayfed.models.gan import GAN


def net() -> nn.Module:
    """Images [B, 2, 8, 8] to [B, 3, 4, 4] by 5x5 kernels, then 48 values to 7."""
    return nn.Sequential(nn.Conv2d(2, 3, 5, 2, 2), nn.LeakyReLU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 7))


CONVOLUTION = 4 * (3 * 4 * 4) * (2 * 5 * 5)
"""Multiply-adds of a batch of 4: for each of its 3*4*4 values, a kernel of 2*5*5."""
LINEAR = 4 * 48 * 7


@pytest.mark.parametrize(
    ("backward", "input_too", "expected"),
    [
        (False, False, 2 * (CONVOLUTION + LINEAR)),
        # Backward: the weights' gradient, and the layer input's where something before it wants it.
        (True, False, 2 * (2 * CONVOLUTION + 3 * LINEAR)),
        (True, True, 2 * (3 * CONVOLUTION + 3 * LINEAR)),
    ],
)
def test_a_convolution_and_a_matrix_product_by_hand(backward: bool, input_too: bool, expected: int) -> None:
    meter, network = Meter(), net()
    x = torch.randn(4, 2, 8, 8, requires_grad=input_too)
    with meter.measure("step"):
        out = network(x).square().sum()
        if backward:
            out.backward()
    assert meter.take() == expected
    assert meter.take() == 0


def test_a_transposed_convolution_by_hand() -> None:
    """[B, 4, 7, 7] to [B, 2, 14, 14]: each of the 4*7*7 inputs meets a kernel of 2*4*4."""
    meter = Meter()
    with meter.measure("up"):
        nn.ConvTranspose2d(4, 2, 4, 2, 1)(torch.randn(3, 4, 7, 7))
    assert meter.take() == 2 * 3 * (4 * 7 * 7) * (2 * 4 * 4)


def test_work_is_remembered_by_its_key_and_added_up() -> None:
    meter, network = Meter(), net()
    for batch in (4, 8, 4, 4):
        with meter.measure("forward", batch):
            network(torch.randn(batch, 2, 8, 8))
    meter.add(5)
    once = 2 * (CONVOLUTION + LINEAR)
    assert meter.take() == once + 2 * once + once + once + 5
    with meter.measure("forward", 8):
        pass
    assert meter.take() == 2 * once, "counted the first time alone"


def test_counting_changes_no_bit() -> None:
    """The first step counts, the second does not: from the same weights they end with the same."""
    gan = GAN(Model(name="dcgan28", width=4), 1)
    gan.initialise(1)
    start, found = gan.models(), []
    batch = np.random.default_rng(0).integers(0, 256, (6, 1, 28, 28), np.uint8)
    for _ in range(2):
        gan.load_models(start)
        gan.load_optimizer_state(None)
        losses = gan.train([batch], seed=2)
        found.append((losses, gan.meter.take(), gan.models()))
    (losses, flops, models), (again, flops_again, models_again) = found
    assert losses == again
    assert flops == flops_again > 0
    for name in models:
        np.testing.assert_array_equal(models[name], models_again[name])


def test_a_gans_step_by_hand() -> None:
    """dcgan28 of width 4 on batches of 6, in multiply-adds an image.

    G: 100*784 (dense), 16*49 kernels of 8*25, 8*49 of 4*25, 4*196 of 1*25. D: 4*196 kernels of 1*25, 8*49 of 4*25,
    16*16 of 8*25, 256 (dense).
    """
    dense, ups = 100 * 784, [16 * 49 * 8 * 25, 8 * 49 * 4 * 25, 4 * 196 * 25]
    first, rest = 4 * 196 * 25, 8 * 49 * 4 * 25 + 16 * 16 * 8 * 25 + 256
    forward_g = dense + sum(ups)
    # G's step: D forward, back to its input without its weights; G back, but not to z.
    g_step = 2 * (first + rest) + dense + 2 * sum(ups)
    # D's step, on real images and on fakes: forward, weights, inputs of all but the first layer.
    d_step = 2 * (2 * first + 3 * rest)

    gan = GAN(Model(name="dcgan28", width=4), 1)
    gan.initialise(1)
    real = torch.zeros(6, 1, 28, 28)
    fakes = gan.fakes(gan.noise(6))
    assert gan.meter.take() == 2 * 6 * forward_g
    gan.generator_step(fakes)
    assert gan.meter.take() == 2 * 6 * g_step
    gan.discriminator_step(real, fakes.detach())
    assert gan.meter.take() == 2 * 6 * d_step
    gan.feedback(fakes)
    assert gan.meter.take() == 2 * 6 * 2 * (first + rest)
    again = gan.fakes(gan.noise(6))
    gan.meter.take()
    gan.follow([again], [torch.ones_like(again)])
    assert gan.meter.take() == 2 * 6 * (dense + 2 * sum(ups))


def published_lsgan() -> nn.Module:
    """FeGAN's generator as published, in torch's own layers."""
    return nn.Sequential(
        nn.Linear(100, 128 * 8 * 8),
        nn.Unflatten(1, (128, 8, 8)),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(128, 128, 3, padding=1), nn.BatchNorm2d(128, 0.8), nn.LeakyReLU(0.2)),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(128, 64, 3, padding=1), nn.BatchNorm2d(64, 0.8), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(64, 1, 3, padding=1), nn.Tanh()),
    )


def test_a_folded_convolution_counts_as_the_published_one() -> None:
    """LSGAN's generator, forward and backward, as torch counts the network of Upsample and Conv2d.

    By hand, in multiply-adds an image: 100*8192 (dense), 16*16 pixels of 128 kernels of 128*9, 32*32 of 64 of 128*9,
    32*32 of one of 64*9.
    """
    published, gan = published_lsgan(), GAN(Model(), 1)
    gan.initialise(1)
    with FlopCounterMode(display=False) as forward:
        images = published(torch.randn(10, 100))
    fakes = gan.fakes(gan.noise(10))
    assert gan.meter.take() == forward.get_total_flops()
    by_hand = 100 * 8192 + 16 * 16 * 128 * 128 * 9 + 32 * 32 * 64 * 128 * 9 + 32 * 32 * 64 * 9
    assert forward.get_total_flops() == 2 * 10 * by_hand
    with FlopCounterMode(display=False) as backward:
        images.sum().backward()
    gan.follow([fakes], [torch.ones_like(fakes)])
    assert gan.meter.take() == backward.get_total_flops()
    with torch.no_grad(), counted() as evaluated:
        gan.fakes(gan.noise(10))
    assert evaluated.flops == forward.get_total_flops()


def test_an_iteration_of_fegan_needs_701_megaflop_an_image() -> None:
    """G forward and its step, D's step, as published; what runs here needs 323."""
    gan = GAN(Model(), 1)
    gan.initialise(1)
    batch = np.zeros((5, 1, 32, 32), np.uint8)
    with FlopCounterMode(display=False) as run:
        gan.train([batch], seed=0)
    assert round(run.get_total_flops() / 5 / 1e6) == 323
    gan.meter.take()
    gan.train([batch], seed=0)
    assert round(gan.meter.take() / 5 / 1e6) == 701
