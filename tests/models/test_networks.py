"""Networks against the published counts, layers against torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rayfed.models.layers import UpsampleConv2d
from rayfed.models.networks import ARCHITECTURES, LATENT, initialise


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "channels", "generator", "discriminator"),
    [
        ("dcgan64", 3, 3_576_704, 2_765_568),  # Ren et al., section V
        ("dcgan28", 1, None, 1_664 + 204_928 + 823_553),  # FSL-GAN's three portions
        # LSGAN by hand. G: 101*8192 + (9*128+1)*128 + 2*128 + (9*128+1)*64 + 2*64 + 9*64+1
        # D: 10*16 + (9*16+1)*32+64 + (9*32+1)*64+128 + (9*64+1)*128+256 + 513
        ("lsgan", 1, 827_392 + 147_584 + 256 + 73_792 + 128 + 577, 160 + 4_704 + 18_624 + 74_112 + 513),
    ],
)
def test_parameter_counts(name: str, channels: int, generator: int | None, discriminator: int) -> None:
    built_generator, built_discriminator = ARCHITECTURES[name].build(channels, 64, 0)
    assert parameters(built_discriminator) == discriminator
    assert generator is None or parameters(built_generator) == generator


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_range(name: str, channels: int) -> None:
    architecture = ARCHITECTURES[name]
    generator, discriminator = architecture.build(channels, 8, 0)
    images = generator(torch.randn(3, LATENT))
    assert images.shape == (3, channels, architecture.side, architecture.side)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (3, 1)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_conditional_networks_take_a_one_hot_label_and_a_plane_per_class(name: str) -> None:
    """Their first layers alone are larger: by 7 rows of what one latent value, or one image channel, feeds."""
    architecture = ARCHITECTURES[name]
    plain, conditional = architecture.build(3, 8, 0), architecture.build(3, 8, 7)
    images = conditional[0](torch.randn(3, LATENT + 7))
    assert images.shape == (3, 3, architecture.side, architecture.side)
    assert conditional[1](torch.cat((images, torch.zeros(3, 7, architecture.side, architecture.side)), 1)).shape == (
        3,
        1,
    )
    for inputs, one, other in zip((LATENT, 3), plain, conditional, strict=True):
        first = next(one.parameters()).numel()
        assert parameters(other) - parameters(one) == 7 * first // inputs


def test_upsample_convolution_equals_torch() -> None:
    """Values and gradients, to float64 rounding."""
    torch.manual_seed(0)
    layer = UpsampleConv2d(5, 7).double()
    x = torch.randn(2, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    ours = layer(x)
    theirs = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, other in zip(
        torch.autograd.grad(ours.square().sum(), (x, layer.weight, layer.bias)),
        torch.autograd.grad(theirs.square().sum(), (x, layer.weight, layer.bias)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_initial_weights_have_radfords_spread() -> None:
    torch.manual_seed(0)
    generator, _ = ARCHITECTURES["dcgan64"].build(3, 64, 0)
    initialise(generator)
    convolutions = torch.cat([m.weight.detach().flatten() for m in generator if isinstance(m, nn.ConvTranspose2d)])
    norms = torch.cat([m.weight.detach().flatten() for m in generator if isinstance(m, nn.BatchNorm2d)])
    assert convolutions.std() == pytest.approx(0.02, rel=0.01)
    assert convolutions.mean().abs() < 1e-4
    assert norms.mean() == pytest.approx(1, abs=0.005)
    assert norms.std() == pytest.approx(0.02, rel=0.2)
