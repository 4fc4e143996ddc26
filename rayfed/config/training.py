"""What every method's section of a configuration shares; a method's own section lies with the method."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from rayfed.config.sections import Count, Fraction, Section

Sampling = Literal["random", "balanced", "round-robin", "proportional-fair", "best-channel"]

Deadline = Annotated[float, Field(gt=0)] | None
"""Seconds of wall clock after which the server goes on without the late. None means that it waits for all."""

Precision = Literal["float32", "bfloat16"]
"""Of numbers that are kept."""

Keeping = Literal["keep", "fresh"]
"""Adam's state stays on the device between rounds, or starts at zero each round."""


class Training(Section):
    """What every method can be told."""

    conditional: ClassVar[bool] = False
    """Whether the networks take class labels."""
    pools_data: ClassVar[bool] = False
    """Whether the data of all devices is trained on in one place."""
    files: ClassVar[tuple[str, ...]] = ()
    """Keys whose values are files; their paths may be relative to the configuration's own folder."""

    name: str
    """A method that `rayfed methods` lists, or `package.module:METHOD`."""
    iterations: Count = 30
    """E, the iterations of a round."""
    batch: Count = 50
    """B, the images of a batch; networks with BatchNorm over vectors, as dcgan28 is, need 2 at least."""
    optimizer_state: Precision = "float32"
    """How devices keep Adam's moments between rounds: `bfloat16` halves their bytes on the disk, and rounds them once a
    round."""

    @property
    def local_steps(self) -> int:
        """Steps on a device per call."""
        return self.iterations

    @property
    def narrowed(self) -> tuple[str, ...]:
        """Endings of the names of a device's arrays that are kept as bfloat16."""
        return (".exp_avg", ".exp_avg_sq") if self.optimizer_state == "bfloat16" else ()

    @property
    def sends_to_peers(self) -> bool:
        """Whether payloads go from device to device."""
        return False

    @property
    def without_peers(self) -> str:
        """The key and value with which none would, for a message; empty where there is no such key."""
        return ""

    @property
    def selection(self) -> str:
        """How the participants of a round are chosen; see `rayfed.scheduling.sampling`."""
        return "all"

    @property
    def sizing(self) -> str:
        """How much of a round each participant does; see `rayfed.scheduling.load`."""
        return "equal"

    @property
    def keeps_optimizer_state(self) -> bool:
        """Whether Adam's state stays on the device between rounds."""
        return True

    @property
    def patience(self) -> tuple[float | None, float]:
        """Seconds after which late replies are left out (None: never), and the quorum of an exchange."""
        return None, 1.0

    def participants(self, devices: int) -> int:
        """How many of the devices take part in a round."""
        return devices

    def too_few(self, devices: int) -> str:
        """What a message says where none of so many devices takes part."""
        return f"devices.count = {devices}: {self.name} asks none of them in a round; at least one must take part"


class DistributedTraining(Training):
    """Training with devices that may be late or lost."""

    deadline_s: Deadline = None
    """Seconds of wall clock after which a round goes on without the late. None means that it waits for all."""
    quorum: Fraction = 0.5
    """The fraction of those asked that must reply; with fewer, what they were asked for is abandoned."""

    @property
    def patience(self) -> tuple[float | None, float]:
        """See `Training.patience`."""
        return self.deadline_s, self.quorum


class FederatedTraining(DistributedTraining):
    """A fraction of the devices takes part each round."""

    fraction: Fraction = 0.1
    """C, the fraction of the devices that take part in a round: C times `devices.count`, rounded down."""
    sampling: Sampling = "random"
    """How the participants of a round are chosen; `balanced` is FeGAN's section 3.3, `proportional-fair` and
    `best-channel` go by the twin's uplinks."""
    load: Literal["equal", "linear"] = "equal"
    """Whether B and E are the same for all (`equal`), or smaller for weak devices (`linear`): B for less memory and E
    for less compute, down to a half (FeGAN, section 3.4)."""
    moments: Keeping = "keep"
    """Whether Adam's moments, the optimizer state, stay on the device between rounds (`keep`) or start at zero each
    round (`fresh`)."""

    @property
    def keeps_optimizer_state(self) -> bool:
        """See `Training.keeps_optimizer_state`."""
        return self.moments == "keep"

    @property
    def selection(self) -> str:
        """See `Training.selection`."""
        return self.sampling

    @property
    def sizing(self) -> str:
        """See `Training.sizing`."""
        return self.load

    def participants(self, devices: int) -> int:
        """C*K rounded down."""
        return int(self.fraction * devices + 1e-9)

    def too_few(self, devices: int) -> str:
        """See `Training.too_few`."""
        return (
            f"method.fraction = {self.fraction}: C*K = {self.fraction} * {devices} = {self.fraction * devices:g} "
            f"devices a round is less than one; with devices.count = {devices} it must be at least {1 / devices:.4g}"
        )
