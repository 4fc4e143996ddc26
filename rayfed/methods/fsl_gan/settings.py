"""What FSL-GAN can be told, what its server remembers, and the hardware that its device table describes."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from rayfed.config import Client, RunConfig, Training, Twin
from rayfed.config.sections import Count
from rayfed.config.table import load_table
from rayfed.config.training import Deadline
from rayfed.methods.state import State

Plan = list[list[Any]]
"""JSON: [device, [its blocks]] in the order of the blocks."""


class Settings(Training):
    """FSL-GAN (2022): a discriminator per client, split over the client's devices."""

    files: ClassVar[tuple[str, ...]] = ("table",)
    """A device table, CSV or YAML, instead of `clients`; its path may be relative to the configuration's own folder."""
    deadline_s: Deadline = None
    """Seconds of wall clock after which an exchange goes on without the late. None means that it waits for all."""
    iterations: Count = 24
    """The batches of an epoch, which is a round."""
    batch: Count = 256
    """B, the real images of a batch, which has as many fakes."""
    clients: Annotated[list[Client], Field(min_length=1)]
    """The clients and their devices, most easily given as `method.table`. `devices.count` must be their number."""
    strategy: Literal[
        "optimal", "pipelined", "sorted_multiple", "sorted_single", "random_multiple", "random_single"
    ] = "optimal"
    """Who holds which portions: the plan with the fastest step (`optimal`), that with the fastest slowest stage
    (`pipelined`), or the paper's four, which take the devices by efficiency (`sorted`) or in a drawn order (`random`)
    and give each as many portions as fit (`multiple`) or one (`single`)."""
    portions: Literal["paper", "blocks"] = "paper"
    """What is placed: each block of the discriminator, the last two together (`paper`), or each alone (`blocks`)."""
    micro_batches: Count = 1
    """The parts of a batch that pass through the devices one behind the other; more than 1 needs a discriminator
    without BatchNorm, as dcgan28's is."""
    drop_slowest: bool = False
    """Whether the client whose step takes longest is left out."""

    @model_validator(mode="before")
    @classmethod
    def _clients_of_the_table(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "table" not in tree:
            return tree
        rest = {key: value for key, value in tree.items() if key != "table"}
        return rest | {"clients": [client.model_dump() for client in load_table(str(tree["table"]))]}

    @property
    def local_steps(self) -> int:
        """One step on a discriminator per iteration."""
        return 1

    @property
    def patience(self) -> tuple[float | None, float]:
        """No quorum: a client without a reply begins again, or sits out."""
        return self.deadline_s, 0.0

    @property
    def sends_to_peers(self) -> bool:
        """Activations and gradients go from device to device, where a client has several."""
        return any(len(client.devices) > 1 for client in self.clients)

    @property
    def device_names(self) -> list[str]:
        """client/device, in the order in which devices are numbered."""
        return [f"{client.name}/{device.name}" for client in self.clients for device in client.devices]


def settings_of(config: RunConfig) -> Settings:
    """The run's method, which is this one."""
    assert isinstance(config.method, Settings)
    return config.method


def hardware(config: RunConfig) -> Twin:
    """The twin with one profile per physical device, which has a time factor and a link of its own in the table."""
    devices = [device for client in settings_of(config).clients for device in client.devices]
    profiles = [config.twin.devices[k % len(config.twin.devices)] for k in range(len(devices))]
    own = [
        profile.model_copy(
            update={
                "time_factor": profile.time_factor * device.time_factor,
                "up_mbps": device.up_mbps or profile.up_mbps,
                "down_mbps": device.down_mbps or profile.down_mbps,
            }
        )
        for profile, device in zip(profiles, devices, strict=True)
    ]
    return config.twin.model_copy(update={"devices": own})


@dataclass(frozen=True)
class FslState(State):
    """What FSL-GAN's server remembers beside the networks."""

    held: dict[str, Plan] = field(default_factory=dict)
    """Each client's plan, by its number."""
    gone: list[int] = field(default_factory=list)
    """The devices that were lost and have not come back."""
    dropped: int | None = None
    """The slowest client, left out in the last round. None means that none was."""
    slowness: dict[str, float] = field(default_factory=dict)
    """What the plan goes by: the seconds of devices, by number, over those that their profiles say, where they differ
    by more than a quarter."""
