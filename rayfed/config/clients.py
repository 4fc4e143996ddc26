"""Clients that own several devices each (FSL-GAN)."""

from typing import Annotated

from pydantic import Field

from rayfed.config.sections import Section, Share
from rayfed.config.simulation import Positive


class Device(Section):
    """One of a client's devices."""

    name: str
    """The device's name, which no other device of the client has."""
    capacity: Positive
    """Memory, in parameters (FSL-GAN's Client_Capacity)."""
    time_factor: Annotated[float, Field(gt=0, le=1e6)]
    """Multiplies the seconds of every computation: larger is slower."""
    up_mbps: Positive | None = None
    """Mbit/s from the device. None means what its profile or the network of the section `twin` says; in `rayfed plan`,
    which has no such section, that it is unlimited."""
    down_mbps: Positive | None = None
    """Mbit/s to the device; None as for `up_mbps`."""
    ray_cpus: Share | None = None
    """CPUs that the device's host in the Ray cluster asks for. None means what `resources.device_host` says."""
    ray_gpus: Share | None = None
    """GPUs that the device's host asks for. None means what `resources.device_host` says."""
    ray_memory: Annotated[float, Field(ge=0)] | None = None
    """Bytes that the device's host asks for. None means what `resources.device_host` says."""


class Client(Section):
    """Who trains one discriminator on its devices."""

    name: str
    """The client's name."""
    devices: Annotated[tuple[Device, ...], Field(strict=False)]
    """The client's devices; in a file, a list."""
