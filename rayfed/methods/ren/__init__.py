"""Ren, Liu, Yu, Guo: "A New Distributed Method for Training Generative Adversarial Networks" (2021).

The three algorithms are in `rayfed.methods.ren.algorithm`.
"""

from typing import Literal

from rayfed.config import FederatedTraining
from rayfed.config.sections import Count, Fraction
from rayfed.methods.spec import MethodSpec


class Settings(FederatedTraining):
    """Ren, Liu, Yu, Guo: one generator on the server, averaged discriminators."""

    iterations: Count = 5
    """n_d, the steps on a device's discriminator in a round."""
    g_steps: Count = 5
    """n_g, the steps on the generator in a round."""
    batch: Count = 128
    """m_k, the images of a batch."""
    fraction: Fraction = 1.0
    """C, the fraction of the devices that take part in a round."""
    schedule: Literal["serial", "parallel"] = "serial"
    """Whether the generator is trained after the devices, against the new averaged discriminator (`serial`), or beside
    them, against the old one (`parallel`)."""


METHOD = MethodSpec(
    name="ren",
    about="one G, averaged Ds; serial or parallel (Ren, Liu, Yu, Guo 2021)",
    settings=Settings,
    server="rayfed.methods.ren.algorithm:Server",
    device="rayfed.methods.ren.algorithm:Device",
    holds=("generator",),
)
