"""The sanitised gradient (IoTSL's formulas 4 and 5, after GS-WGAN: Chen et al. 2020).

What a generator learns from its critic is dL/dG(z), the gradient at its output. It is clipped and noised there, sample
by sample; what the chain rule then makes of it for the generator's weights costs no further privacy.
"""

import math

import torch
from torch import Tensor


def sanitise(gradient: Tensor, clip: float, sigma: float, draws: torch.Generator) -> Tensor:
    """`gradient` [B, ...] of a mean over B samples, each sample's clipped to the L2 norm C, plus N(0, sigma^2 C^2 I).

    Of a mean, each sample's gradient is 1/B of its own, so C is `clip` / B here. An infinite `clip` clips nothing; with
    `sigma` = 0 nothing is added. The noise comes from `draws`, a generator of the CPU.
    """
    bound = clip / len(gradient)
    if math.isfinite(bound):
        gradient = clip_samples(gradient, bound)
    if sigma == 0:
        return gradient
    noise = torch.randn(gradient.shape, generator=draws).to(gradient.device)
    return gradient.add(noise, alpha=sigma * bound)


def clip_samples(gradient: Tensor, bound: float) -> Tensor:
    """`gradient` [B, ...], each sample scaled down to the L2 norm `bound` if its own is larger.

    What is not finite counts as zero: no sample may leave more than its bound, not even one that overflowed.
    """
    gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1).view(-1, *[1] * (gradient.dim() - 1))
    scale: Tensor = (bound / norms).clamp(max=1)
    return gradient * scale
