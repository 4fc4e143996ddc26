"""Runs device halves, one at a time: the part that LocalFleet and RayFleet share."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rayfed.fleet.codec import payload_bytes
from rayfed.fleet.protocol import Arrays


@dataclass(frozen=True)
class Receipt:
    """What a call cost: measured seconds, bytes of each argument, bytes of the reply."""

    seconds: float
    inputs: tuple[int, ...]
    output: int


class Host:
    """Builds a device's half around its state when it is that device's turn.

    `build(device, state)` gives an object with the methods that are called and an attribute `state`, the Arrays
    that the device owns until its next turn.
    """

    def __init__(self, build: Callable[[int, Arrays], Any]) -> None:
        self.build = build

    def run(self, device: int, method: str, state: Arrays, *args: Any) -> tuple[Any, Arrays, Receipt]:
        """Run one call; the same state and arguments give the same reply, on any host, any number of times."""
        start = time.perf_counter()
        half = self.build(device, state)
        reply = getattr(half, method)(*args)
        seconds = time.perf_counter() - start
        return reply, half.state, Receipt(seconds, tuple(payload_bytes(arg) for arg in args), payload_bytes(reply))
