"""The methods' sections: what each can be told."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from rayfed.config.clients import Client
from rayfed.config.sections import Count, Fraction, Section

Sampling = Literal["random", "balanced", "round-robin", "proportional-fair", "best-channel"]

Deadline = Annotated[float, Field(gt=0)] | None
"""Seconds of wall clock after which the server goes on without the late; none: wait for all."""


class Training(Section):
    """What every method shares."""

    conditional: ClassVar[bool] = False
    """Whether the networks take class labels."""

    iterations: Count = 30
    """E, iterations in a round."""
    batch: Count = 50
    """B, images in a batch."""

    @property
    def local_steps(self) -> int:
        """Steps on a device per call."""
        return self.iterations

    @property
    def swaps(self) -> bool:
        """Whether payloads go from device to device."""
        return False

    def participants(self, devices: int) -> int:
        """How many of the devices take part in a round."""
        return devices


class DistributedTraining(Training):
    """Training with devices that may be late or lost."""

    deadline_s: Deadline = None
    quorum: Fraction = 0.5
    """The fraction of the participants that must reply, else what they were asked for is abandoned."""


class FederatedTraining(DistributedTraining):
    """A fraction of the devices takes part each round."""

    fraction: Fraction = 0.1
    """C, the fraction of the devices that take part in a round."""
    sampling: Sampling = "random"
    """Who takes part; see `rayfed.scheduling.sampling`."""
    load: Literal["equal", "linear"] = "equal"
    """B and E the same for all, or smaller for weak devices (FeGAN, section 3.4)."""
    moments: Literal["keep", "fresh"] = "keep"
    """Adam's moments stay on the device between rounds, or start at zero each round."""

    def participants(self, devices: int) -> int:
        """C*K rounded down."""
        return int(self.fraction * devices + 1e-9)


class Fegan(FederatedTraining):
    """FeGAN (Guerraoui et al. 2020); sampling and weighting are its s and w."""

    name: Literal["fegan"]
    sampling: Sampling = "balanced"
    weighting: Literal["kl", "uniform"] = "kl"
    scheme: Literal["exp", "linear", "dirac"] = "exp"
    sign: Literal["authors", "opposite"] = "authors"
    """authors: exp(s_k), which favours skewed devices; opposite: exp(-s_k)."""

    @model_validator(mode="after")
    def _sign_needs_an_exponent(self) -> "Fegan":
        if self.sign == "opposite" and self.scheme == "linear":
            raise ValueError("method.sign = 'opposite': the linear scheme has no exponent to turn; use exp or dirac")
        return self


class FlVanilla(FederatedTraining):
    """FedAvg of G and D with the plain mean."""

    name: Literal["fl-vanilla"]


class FedGan(FederatedTraining):
    """FedAvg of G and D weighted by n_k / n."""

    name: Literal["fedgan"]


class Ren(FederatedTraining):
    """Ren, Liu, Yu, Guo: one generator on the server, averaged discriminators."""

    name: Literal["ren"]
    iterations: Count = 5
    """n_d, steps on a device's discriminator in a round."""
    g_steps: Count = 5
    """n_g, steps on the generator in a round."""
    batch: Count = 128
    """m_k, images in a batch."""
    fraction: Fraction = 1.0
    schedule: Literal["serial", "parallel"] = "serial"
    """The generator against the new phi after the devices, or against the old phi beside them."""


class CentralGenerator(DistributedTraining):
    """One generator on the server, and every device in every iteration."""

    d_steps: Count = 1
    """L, steps on a device's discriminator per iteration."""

    @property
    def local_steps(self) -> int:
        """L."""
        return self.d_steps

    def distinct_batches(self, devices: int) -> int:
        """k, the batches of fakes that the devices' feedback is about."""
        return 1


class MdGan(CentralGenerator):
    """MD-GAN (Hardy et al. 2019)."""

    name: Literal["md-gan"]
    batches: Count | Literal["log"] = "log"
    """k, batches of fakes the server draws per iteration; log: ceil(log N)."""
    swap_epochs: Annotated[float, Field(ge=0)] = 1
    """Local epochs between two swaps of discriminators; 0: never."""

    @property
    def swaps(self) -> bool:
        """Discriminators are swapped."""
        return self.swap_epochs > 0

    def distinct_batches(self, devices: int) -> int:
        """k, at least 1."""
        return max(1, math.ceil(math.log(devices))) if self.batches == "log" else self.batches


class F2U(CentralGenerator):
    """Yonetani et al. 2019: per image, the most forgiving discriminator updates G."""

    name: Literal["f2u"]


class F2A(CentralGenerator):
    """Yonetani et al. 2019: a mix of the discriminators that favours the forgiving ones updates G."""

    name: Literal["f2a"]
    forgiveness: Annotated[float, Field(ge=0)] = 1.0
    """lambda, the softmax's factor: 0 is the plain mean, large is F2U."""


class AsynDgan(CentralGenerator):
    """Chang et al. 2020: a conditional generator, sites weighted by their samples."""

    conditional: ClassVar[bool] = True
    name: Literal["asyn-dgan"]


class FslGan(Training):
    """FSL-GAN (2022): a discriminator per client, split over the client's devices."""

    name: Literal["fsl-gan"]
    deadline_s: Deadline = None
    iterations: Count = 24
    """Batches of an epoch, which is a round."""
    batch: Count = 256
    clients: Annotated[list[Client], Field(min_length=1)]
    """In a file: `table: jobs/devices/paper.csv` instead; see `rayfed.config.table`."""
    strategy: Literal[
        "optimal", "pipelined", "sorted_multiple", "sorted_single", "random_multiple", "random_single"
    ] = "optimal"
    """Who holds which portions; see `rayfed.scheduling.portions` and `placement`."""
    portions: Literal["paper", "blocks"] = "paper"
    """What is placed: each block of the discriminator but the last two together, or each block."""
    micro_batches: Count = 1
    """Parts of a batch that pass through the devices one behind the other."""
    drop_slowest: bool = False
    """Leave out the client whose step takes longest."""

    @property
    def local_steps(self) -> int:
        """One step on a discriminator per iteration."""
        return 1

    @property
    def swaps(self) -> bool:
        """Activations and gradients go from device to device, where a client has several."""
        return any(len(client.devices) > 1 for client in self.clients)

    @property
    def device_names(self) -> list[str]:
        """client/device, in the order in which devices are numbered."""
        return [f"{client.name}/{device.name}" for client in self.clients for device in client.devices]


class Centralized(Training):
    """All data in one place: the reference."""

    name: Literal["centralized"]
    moments: Literal["keep", "fresh"] = "keep"
    """Adam's moments go on from round to round, or start at zero each round."""

    def participants(self, devices: int) -> int:
        """The one place."""
        return 1


Method = Annotated[
    Fegan | FlVanilla | FedGan | Ren | MdGan | F2U | F2A | AsynDgan | FslGan | Centralized, Field(discriminator="name")
]
