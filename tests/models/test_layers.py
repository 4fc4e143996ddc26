"""The folded convolution's own backward pass against autograd's, bit for bit."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.models.layers import UpsampleConv2d


def folded(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The same arithmetic in torch's own operations, its backward pass left to autograd."""
    (batch, _, height, width), rows = x.shape, []
    padded = F.pad(x, (1, 1, 1, 1))
    for a, by_row in enumerate(taps(layer.weight, 2)):
        phases = []
        for b, kernel in enumerate(taps(by_row, 3)):
            window = padded[:, :, a : a + height + 1, b : b + width + 1]
            kernel = kernel.contiguous(memory_format=torch.channels_last)
            phases.append(F.conv2d(window, kernel, layer.bias).permute(0, 2, 3, 1))
        rows.append(torch.stack(phases, dim=3))
    return torch.stack(rows, dim=2).reshape(batch, 2 * height, 2 * width, layer.out_channels).permute(0, 3, 1, 2)


def taps(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    first, middle, last = kernel.unbind(dim)
    return torch.stack((first, middle + last), dim), torch.stack((first + middle, last), dim)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("sizes", [(128, 128, 8), (128, 64, 16), (5, 7, 6)])
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16, 33, 50])
def test_values_and_gradients_are_autograds(batch: int, sizes: tuple[int, int, int], bf16: bool) -> None:
    inputs, outputs, side = sizes
    torch.manual_seed(batch)
    layer = UpsampleConv2d(inputs, outputs).to(memory_format=torch.channels_last)
    x = torch.randn(batch, inputs, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = [x, layer.weight, layer.bias]
    found = []
    for forward in (layer, lambda x: folded(layer, x)):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = forward(x)
        upstream = torch.linspace(-1, 1, y.numel()).sin().view(y.shape).to(y)
        found.append((y.detach(), *torch.autograd.grad(y, wanted, upstream)))
    for ours, autograds in zip(*found, strict=True):
        assert ours.dtype == autograds.dtype
        assert torch.equal(ours, autograds)


def test_gradients_through_several_batches_at_once_are_autograds() -> None:
    """As MD-GAN's generator has them: the order of all sums counts."""
    torch.manual_seed(0)
    layer = UpsampleConv2d(16, 8).to(memory_format=torch.channels_last)
    batches, upstream = torch.randn(3, 5, 16, 8, 8), list(torch.randn(3, 5, 8, 16, 16))
    found = []
    for forward in (layer, lambda x: folded(layer, x)):
        outputs = [forward(x.contiguous(memory_format=torch.channels_last)) for x in batches]
        found.append(torch.autograd.grad(outputs, [layer.weight, layer.bias], upstream))
    for ours, autograds in zip(*found, strict=True):
        assert torch.equal(ours, autograds)


def test_what_wants_no_gradient_gets_none() -> None:
    layer, x = UpsampleConv2d(3, 2), torch.ones(1, 3, 4, 4, requires_grad=True)
    layer.requires_grad_(False)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is None
    layer.requires_grad_(True)
    layer(x.detach()).sum().backward()
    assert layer.bias.grad.tolist() == [64, 64], "each of 8x8 pixels has it once"
