"""Runs device halves, one at a time: the part that LocalFleet and RayFleet share."""

import time
from collections.abc import Callable
from typing import Any

from rayfed.fleet.codec import holds, payload_kinds
from rayfed.fleet.protocol import Arrays, Receipt
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.ids import DeviceId


class PrivateError(Exception):
    """A device half's reply has what its class says is `private`."""


class Host:
    """Builds a device's half around its state when it is that device's turn.

    `build(device, state)` gives an object with the methods that are called and an attribute `state`, the Arrays
    that the device owns until its next turn. What its class names in `private` is not sent: a call whose reply has it
    raises PrivateError. `flops()` gives the floating-point operations since it was last asked.
    """

    def __init__(
        self,
        build: Callable[[DeviceId, Arrays], Any],
        flops: Callable[[], int] = int,
        states: StateFolder | None = None,
    ) -> None:
        """`states`: where states lie between calls. None means that they are handed on as arrays."""
        self.build = build
        self.flops = flops
        self.states = states

    def read(self, state: Arrays | StateFile) -> Arrays:
        """A device's state, wherever it lies. Raises StateError when it cannot be read."""
        if not isinstance(state, StateFile):
            return state
        assert self.states is not None, "a state that is a file needs the folder"
        return self.states.read(state)

    def write(self, state: Arrays) -> Arrays | StateFile:
        """Where a state lies until the device's next turn: in a file, unless it is empty or there is no folder.

        Raises StateError when it cannot be written.
        """
        return self.states.write(state) if self.states and state else state

    def run(self, device: DeviceId, method: str, state: Arrays, *args: Any) -> tuple[Any, Arrays, Receipt]:
        """Run one call; the same state and arguments give the same reply, on any host, any number of times."""
        start = time.perf_counter()
        half = self.build(device, state)
        reply = getattr(half, method)(*args)
        seconds = time.perf_counter() - start
        for name in getattr(half, "private", ()):
            if name in half.state and holds(reply, half.state[name]):
                raise PrivateError(f"{method} of device {device} would send {name!r}, which is private to it")
        inputs = tuple(payload_kinds(arg) for arg in args)
        return reply, half.state, Receipt(seconds, self.flops(), inputs, payload_kinds(reply))
