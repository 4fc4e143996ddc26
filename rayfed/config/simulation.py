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
    memory: Annotated[int, Field(ge=0, le=10**15)] = 0
    """Bytes of memory; a run whose models, gradients and moments do not fit is refused. 0 means no limit."""
    watts: NotNegative = 0.0
    """Watts that it draws while it computes or has a transfer under way, for the metric `joules`. 0 counts none."""
    jitter: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Multiplies every computation's seconds by exp(jitter * N(0, 1))."""
    drift: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Its speed walks away from round to round: the seconds of round r are multiplied by
    exp(drift * (N_1 + ... + N_r)), with N_i ~ N(0, 1)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The chance that the device is away in a round."""
    up_mbps: Positive | None = None
    """Mbit/s from the device, over its own link. None means what the network says."""
    down_mbps: Positive | None = None
    """Mbit/s to the device, over its own link. None means what the network says."""
    latency_s: NotNegative | None = None
    """Seconds that a transfer takes on its link beside the time for its bytes. None means what the network says."""


class Lan(Section):
    """A local network: each transfer takes one hop, whatever its size, from any node to any node (FSL-GAN)."""

    kind: Literal["lan"] = "lan"
    """Names this kind of network; without it the network is `wired`."""
    hop_s: NotNegative = 0.05
    """Seconds of a transfer."""


class Wired(Section):
    """A star of full-duplex links, one for each device and one for the server; several transfers share a link."""

    kind: Literal["wired"] = "wired"
    """Names this kind of network; it is also what a network without `kind` is."""
    up_mbps: Positive = 20.0
    """Mbit/s from a device."""
    down_mbps: Positive = 50.0
    """Mbit/s to a device."""
    latency_s: NotNegative = 0.02
    """Seconds that a transfer takes on a device's link beside the time for its bytes."""
    server_up_mbps: Positive = 1000.0
    """Mbit/s from the server."""
    server_down_mbps: Positive = 1000.0
    """Mbit/s to the server."""
    peers: bool = True
    """Whether devices can send to devices, over the same links."""


class Cell(Section):
    """A wireless cell with the server at its centre (Ren et al., simulation settings); no device reaches another."""

    kind: Literal["cell"] = "cell"
    """Names this kind of network."""
    radius_m: Annotated[float, Field(gt=0, le=100_000)] = 300.0
    """The radius of the disc in which the devices lie uniformly, in metres."""
    bandwidth_mhz: Positive = 10.0
    """MHz in all; uploads and payloads for one device share it equally among the scheduled devices."""
    noise_dbm_hz: Annotated[float, Field(ge=-400, lt=0)] = -174.0
    """The noise's power density, in dBm per Hz."""
    device_dbm: Annotated[float, Field(ge=-100, le=100)] = 24.0
    """A device's transmission power, in dBm."""
    server_dbm: Annotated[float, Field(ge=-100, le=100)] = 46.0
    """The server's transmission power, in dBm."""


NetworkModel = Annotated[Lan | Wired | Cell, Field(discriminator="kind")]


class Twin(Section):
    """The digital twin: on which hardware and network the rounds are replayed."""

    devices: Annotated[list[Profile], Field(min_length=1)] = [Profile()]  # noqa: RUF012 - pydantic copies it
    """The kinds of device: device k has entry k modulo their number."""
    server: Profile = Profile(flops_per_s=SERVER_FLOPS)
    """The server's hardware, 100 times as fast as a device unless said otherwise. Its `dropout` and `latency_s` are not
    used: the server is always there."""
    network: NetworkModel = Wired()
    """The network between server and devices, of one of three kinds."""
    deadline_s: Positive | None = None
    """Simulated seconds that an exchange may take, from the end of the one before to its last reply. None means that
    nobody is late."""
    drop_late: bool = False
    """Whether the devices that miss the deadline are left out; some methods wait for all. It needs `deadline_s`."""

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
