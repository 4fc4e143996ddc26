"""Layers that compute the same as torch's, faster on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.models.flops import spare

SPARED = 4 * 9 - 4 * 4
"""Multiply-adds for each pixel, channel and filter that a 3x3 kernel over four pixels needs more than four 2x2 ones."""


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
        batch, _, height, width = x.shape
        padded = F.pad(x, (1, 1, 1, 1))
        rows = []
        for a, by_row in enumerate(_fold(self.weight, dim=2)):
            phases = []
            for b, kernel in enumerate(_fold(by_row, dim=3)):
                window = padded[:, :, a : a + height + 1, b : b + width + 1]
                kernel = kernel.contiguous(memory_format=torch.channels_last)
                phases.append(F.conv2d(window, kernel, self.bias).permute(0, 2, 3, 1))
            rows.append(torch.stack(phases, dim=3))
        merged = torch.stack(rows, dim=2).reshape(batch, 2 * height, 2 * width, self.out_channels)
        output = merged.permute(0, 3, 1, 2)
        if not torch.compiler.is_compiling():  # an exported network counts nothing
            self._count(x, output)
        return output

    def _count(self, x: Tensor, output: Tensor) -> None:
        """What this pass spares of the published convolution's operations, and what the way back will."""
        spared = 2 * SPARED * x.numel() * self.out_channels
        spare(spared)
        if output.requires_grad:
            gradients = int(x.requires_grad) + int(self.weight.requires_grad)
            output.register_hook(lambda _: spare(gradients * spared))


def _fold(kernel: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two 2-tap kernels, one per output phase, that a 3-tap kernel becomes along `dim`."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack((first, middle + last), dim), torch.stack((first + middle, last), dim)
