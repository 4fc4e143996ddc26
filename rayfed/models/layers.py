"""Layers that compute the same as torch's, faster on a CPU."""

from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rayfed.models.flops import spare

SPARED = 4 * 9 - 4 * 4
"""Multiply-adds for each pixel, channel and filter that a 3x3 kernel over four pixels needs more than four 2x2 ones."""
PHASES = tuple(product((0, 1), repeat=2))
"""Which rows (a) and columns (b) of the upsampled image, the even or the odd ones, a 2x2 kernel computes."""


class UpsampleConv2d(nn.Conv2d):
    """Nearest upsampling by 2, then a 3x3 convolution with padding 1, without building the upsampled image.

    After nearest upsampling every 3x3 window covers only 2x2 distinct pixels, so each of the four output phases
    is a 2x2 convolution at the low resolution, with the kernel rows and columns that fall on the same pixel
    summed. Exact up to rounding, at 16/36 of the multiplications; the other 20/36 are counted all the same
    (`rayfed.models.flops.spare`), since the published network needs them.

    Input [B, C, H, W], output [B, O, 2H, 2W] in channels_last order.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kernels = [
            kernel.contiguous(memory_format=torch.channels_last)
            for by_row in _fold(self.weight, dim=2)
            for kernel in _fold(by_row, dim=3)
        ]
        assert self.bias is not None
        bias = self.bias
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            bias, kernels = bias.to(dtype), [kernel.to(dtype) for kernel in kernels]
        output: Tensor = _PhaseConvolutions.apply(x, *kernels, *[bias] * len(PHASES))
        return output


class _PhaseConvolutions(torch.autograd.Function):
    """The four phases' convolutions, interleaved, in the precision of the kernels.

    Written out because autograd copies every window twice, and gathers the input's gradient in buffers of another
    memory format. No bit differs: sums go from the last phase to the first, as autograd's do. There is a bias for
    each phase, all the same one, so that autograd adds up their gradients, even over several outputs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *operands: Tensor) -> Tensor:
        kernels, bias = operands[: len(PHASES)], operands[-1]
        windows = _windows(x if x.dtype == bias.dtype else x.to(bias.dtype))
        ctx.save_for_backward(*windows, *kernels)
        ctx.dtype = x.dtype
        if not torch.compiler.is_compiling():  # an exported network counts nothing
            ctx.spared = 2 * SPARED * x.numel() * len(bias)
            spare(ctx.spared)
        return _interleaved([F.conv2d(*each, bias) for each in zip(windows, kernels, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        height, width = (size // 2 for size in gradient.shape[2:])
        wants = [ctx.needs_input_grad[each] for each in (0, 1, -1)]
        spare(sum(wants[:2]) * ctx.spared)
        of_input, of_kernels, of_biases = None, [], []
        saved = zip(PHASES, ctx.saved_tensors[: len(PHASES)], ctx.saved_tensors[len(PHASES) :], strict=True)
        for (a, b), window, kernel in reversed(list(saved)):
            phase = gradient[:, :, a::2, b::2]
            of_window, of_kernel, of_bias = torch.ops.aten.convolution_backward(
                phase, window, kernel, [len(kernel)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wants
            )
            if wants[0]:
                inner = of_window[:, :, 1 - a : 1 - a + height, 1 - b : 1 - b + width].to(ctx.dtype)
                of_input = inner if of_input is None else of_input + inner
            of_kernels.append(of_kernel)
            of_biases.append(of_bias)
        return of_input, *reversed(of_kernels), *of_biases


def _windows(x: Tensor) -> list[Tensor]:
    """The pixels [B, C, H+1, W+1] that each phase's kernel passes over, with zeros where the image ends."""
    return [F.pad(x, (1 - b, b, 1 - a, a)) for a, b in PHASES]


def _interleaved(phases: list[Tensor]) -> Tensor:
    """Four phases [B, O, H, W] as one image [B, O, 2H, 2W], channels_last."""
    batch, channels, height, width = phases[0].shape
    last = [phase.permute(0, 2, 3, 1) for phase in phases]
    rows = [torch.stack(last[:2], dim=3), torch.stack(last[2:], dim=3)]
    merged = torch.stack(rows, dim=2).reshape(batch, 2 * height, 2 * width, channels)
    return merged.permute(0, 3, 1, 2)


def _fold(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two 2-tap kernels, one per output phase, that a 3-tap kernel becomes along `dim`."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack((first, middle + last), dim), torch.stack((first + middle, last), dim)
