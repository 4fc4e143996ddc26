"""What a method's two halves are given: small, typed, and without data where no device runs."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from rayfed.config import RunConfig
from rayfed.data.shard import Shard
from rayfed.ids import DeviceId
from rayfed.scheduling.scheduler import Scheduler

Workspace = TypeVar("Workspace")
"""The networks, optimizers and codecs of one process, as the method's task makes them."""
Registry = TypeVar("Registry", bound=Scheduler)
"""The method's scheduler."""


@dataclass(frozen=True)
class DeviceContext(Generic[Workspace]):
    """What a device half works with, when it is its device's turn."""

    device: DeviceId
    config: RunConfig
    workspace: Workspace
    shard: Shard
    """The data of the client whose device it is."""

    @property
    def seed(self) -> int:
        """Of the run; see `rayfed.seeding` for how to key it."""
        return self.config.seed


@dataclass(frozen=True)
class ServerContext(Generic[Workspace, Registry]):
    """What a server half works with; it holds nobody's data."""

    config: RunConfig
    workspace: Workspace
    scheduler: Registry

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.config.seed
