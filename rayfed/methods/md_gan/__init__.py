"""MD-GAN (Hardy et al., IPDPS 2019), and F2U and F2A (Yonetani et al. 2019) in its layout.

Algorithm 1 is in `rayfed.methods.md_gan.algorithm`, F2U's and F2A's rules are in `forgiving`, and `layout` is what they
and AsynDGAN have in common.
"""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rayfed.config import DistributedTraining, RunConfig
from rayfed.config.sections import Count
from rayfed.errors import counted
from rayfed.methods.spec import MethodSpec


class CentralGenerator(DistributedTraining):
    """One generator on the server, and every device in every iteration."""

    sends_scores: ClassVar[bool] = False
    """Whether devices say of each image that they get how real they find it."""
    d_steps: Count = 1
    """L, the steps on a device's discriminator in an iteration; a round has `iterations` iterations."""

    @property
    def local_steps(self) -> int:
        """L."""
        return self.d_steps

    def distinct_batches(self, devices: int) -> int:
        """k, the batches of fakes that the devices' feedback is about."""
        return 1

    def swap_period(self, images_per_device: float) -> int | None:
        """Iterations between two swaps of discriminators; None means that they are never swapped."""
        return None


class Settings(CentralGenerator):
    """MD-GAN (Hardy et al. 2019)."""

    batches: Count | Literal["log"] = "log"
    """k, the batches of fakes that the server draws in an iteration, at most one per device; `log` is ceil(log N)."""
    swap_epochs: Annotated[float, Field(ge=0)] = 1
    """Local epochs between two swaps of discriminators. 0 means that they are never swapped."""

    @property
    def sends_to_peers(self) -> bool:
        """Discriminators are swapped."""
        return self.swap_epochs > 0

    @property
    def without_peers(self) -> str:
        """Without swaps."""
        return "method.swap_epochs = 0"

    def distinct_batches(self, devices: int) -> int:
        """k, at least 1."""
        return max(1, math.ceil(math.log(devices))) if self.batches == "log" else self.batches

    def swap_period(self, images_per_device: float) -> int | None:
        """`swap_epochs` local epochs of a device of mean size; an iteration takes L batches of a device's images."""
        if not self.sends_to_peers:
            return None
        return max(1, round(self.swap_epochs * (images_per_device / (self.batch * self.d_steps))))


class F2U(CentralGenerator):
    """Yonetani et al. 2019: for each image, the most forgiving discriminator updates G."""

    sends_scores: ClassVar[bool] = True


class F2A(CentralGenerator):
    """Yonetani et al. 2019: a mix of the discriminators that favours the forgiving ones updates G."""

    sends_scores: ClassVar[bool] = True
    forgiveness: Annotated[float, Field(ge=0)] = 1.0
    """lambda, the factor in the softmax: 0 gives the plain mean, a large one F2U."""


def validate(config: RunConfig) -> None:
    """A batch of fakes for every device, and a partner for a swap."""
    method, count = config.method, config.devices.count
    assert isinstance(method, Settings)
    if method.distinct_batches(count) > count:
        k = method.batches
        raise ValueError(
            f"method.batches = {k}: more batches than the {counted(count, 'device')}; use at most {count} or log"
        )
    if method.sends_to_peers and count == 1:
        epochs = method.swap_epochs
        raise ValueError(f"method.swap_epochs = {epochs:g}: one device has nobody to swap with; set it to 0")


METHODS = [
    MethodSpec(
        name="md-gan",
        about="one G on the server, a D per device (Hardy et al. 2019)",
        settings=Settings,
        server="rayfed.methods.md_gan.algorithm:Server",
        device="rayfed.methods.md_gan.algorithm:Device",
        validate=validate,
    ),
    MethodSpec(
        name="f2u",
        about="the most forgiving D updates G (Yonetani et al. 2019)",
        settings=F2U,
        server="rayfed.methods.md_gan.forgiving:F2UServer",
        device="rayfed.methods.md_gan.algorithm:Device",
    ),
    MethodSpec(
        name="f2a",
        about="a mix favouring forgiving Ds updates G (Yonetani et al.)",
        settings=F2A,
        server="rayfed.methods.md_gan.forgiving:F2AServer",
        device="rayfed.methods.md_gan.algorithm:Device",
    ),
]
