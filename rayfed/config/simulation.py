"""The sections of the digital twin: the devices', the server's and the network's simulated hardware.

Mbit/s are 1e6 bit/s throughout.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rayfed.config.sections import Section

SERVER_FLOPS = 1e12
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Profile(Section):
    """One kind of device: what it computes, holds and sends, and how far it can be relied on."""

    flops_per_s: Positive = 1e10
    """Floating-point operations a second, at a time factor of 1."""
    time_factor: Positive = 1.0
    """Multiplies the seconds of every computation: larger is slower (FSL-GAN's Time_Factor)."""
    memory: Annotated[int, Field(ge=0)] = 0
    """Bytes; a run whose models do not fit is refused. 0: unlimited."""
    jitter: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Every computation's seconds times exp(jitter * N(0, 1))."""
    drift: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Its speed walks away from round to round: the seconds of round r times exp(drift * (N_1 + ... + N_r)), N_i
    ~ N(0, 1)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The chance to be away in a round."""
    up_mbps: Positive | None = None
    down_mbps: Positive | None = None
    latency_s: NotNegative | None = None
    """up_mbps, down_mbps, latency_s: of its own link; none: the network's."""


class Lan(Section):
    """A local network: each transfer takes one hop, whatever its size, from any node to any node (FSL-GAN)."""

    kind: Literal["lan"] = "lan"
    hop_s: NotNegative = 0.05


class Wired(Section):
    """A star of full-duplex links, one for each device and one for the server; several transfers share a link."""

    kind: Literal["wired"] = "wired"
    up_mbps: Positive = 20.0
    down_mbps: Positive = 50.0
    latency_s: NotNegative = 0.02
    """up_mbps, down_mbps, latency_s: of a device's link."""
    server_up_mbps: Positive = 1000.0
    server_down_mbps: Positive = 1000.0
    peers: bool = True
    """Devices can send to devices, over the same links."""


class Cell(Section):
    """A wireless cell with the server at its centre (Ren et al., simulation settings); no device reaches another."""

    kind: Literal["cell"] = "cell"
    radius_m: Annotated[float, Field(gt=0, le=100_000)] = 300.0
    """The devices lie uniformly in this disc."""
    bandwidth_mhz: Positive = 10.0
    """In all; uploads and payloads for one device share it equally among the scheduled devices."""
    noise_dbm_hz: Annotated[float, Field(ge=-400, lt=0)] = -174.0
    device_dbm: Annotated[float, Field(ge=-100, le=100)] = 24.0
    server_dbm: Annotated[float, Field(ge=-100, le=100)] = 46.0


NetworkModel = Annotated[Lan | Wired | Cell, Field(discriminator="kind")]


class Twin(Section):
    """The digital twin: on which hardware and network the rounds are replayed."""

    devices: Annotated[list[Profile], Field(min_length=1)] = [Profile()]  # noqa: RUF012 - pydantic copies it
    """Device k has profile k modulo their number."""
    server: Profile = Profile(flops_per_s=SERVER_FLOPS)
    """Its dropout and latency_s are not used: the server is always there."""
    network: NetworkModel = Wired()
    deadline_s: Positive | None = None
    """Simulated seconds of one exchange, from the end of the one before to its last reply."""
    drop_late: bool = False
    """Leave out the devices that miss the deadline."""

    @field_validator("server", mode="before")
    @classmethod
    def _faster_unless_said(cls, value: Any) -> Any:
        return {"flops_per_s": SERVER_FLOPS, **value} if isinstance(value, dict) else value

    @field_validator("network", mode="before")
    @classmethod
    def _wired_unless_said(cls, value: Any) -> Any:
        return {"kind": "wired", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _late_needs_a_deadline(self) -> "Twin":
        if self.drop_late and self.deadline_s is None:
            raise ValueError("twin.drop_late = true: needs twin.deadline_s, the simulated seconds an exchange may take")
        return self
