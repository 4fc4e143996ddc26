"""Clients that own several devices each (FSL-GAN)."""

from typing import Annotated

from pydantic import Field

from rayfed.config.sections import Section, Share
from rayfed.config.simulation import Positive


class Device(Section):
    """One of a client's devices."""

    name: str
    capacity: Positive
    """Memory, in parameters (FSL-GAN's Client_Capacity)."""
    time_factor: Annotated[float, Field(gt=0, le=1e6)]
    """Multiplies the seconds of every computation: larger is slower."""
    up_mbps: Positive | None = None
    down_mbps: Positive | None = None
    """up_mbps, down_mbps: of its link to the client's other devices; none: unlimited."""
    ray_cpus: Share | None = None
    ray_gpus: Share | None = None
    ray_memory: Annotated[float, Field(ge=0)] | None = None
    """ray_cpus, ray_gpus, ray_memory (bytes): what its host in the Ray cluster asks for; none: as
    `resources.device_host` says."""


class Client(Section):
    """Who trains one discriminator on its devices."""

    name: str
    devices: Annotated[tuple[Device, ...], Field(strict=False)]
    """A list in files."""
