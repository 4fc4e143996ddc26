"""Devices that are slower, or faster, than the plan takes them to be."""

from collections.abc import Mapping

from rayfed.ids import DeviceId

TOLERANCE = 1.25
"""A measured speed within this factor of the assumed one is no reason for another plan."""


def drifted(assumed: Mapping[DeviceId, float], measured: Mapping[DeviceId, float]) -> dict[DeviceId, float]:
    """The measured slowness of the devices that have drifted: seconds of computing over those of the profile.

    `assumed`: what the plan goes by, 1 where it names no device.
    """
    found = {}
    for device, slowness in sorted(measured.items()):
        ratio = slowness / assumed.get(device, 1.0)
        if max(ratio, 1 / ratio) > TOLERANCE:
            found[device] = slowness
    return found
