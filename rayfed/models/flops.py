"""Floating-point operations of training steps, as torch's FlopCounterMode counts them for published networks."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass
class Count:
    """Operations: of a `counted` block, once it is over."""

    flops: int = 0


_spared = Count()
"""Of all layers so far; see `spare`."""
_rehearsing = ContextVar("rehearsing", default=False)
"""Whether the operations alone matter, and not what comes of them."""


@contextmanager
def rehearsing() -> Iterator[None]:
    """For the length of the block `Meter.steps` makes one step for all, and `Meter.once` does equal work once."""
    token = _rehearsing.set(True)
    try:
        yield
    finally:
        _rehearsing.reset(token)


def spare(flops: int) -> None:
    """A layer has just done with so many operations fewer than the published network needs."""
    _spared.flops += flops


@contextmanager
def counted() -> Iterator[Count]:
    """Count the operations of the block, as the published network needs them.

    Convolutions and matrix products forward and backward count, two operations per multiply-add; element-wise work
    (activations, BatchNorm, Adam) does not.
    """
    from torch.utils.flop_counter import FlopCounterMode  # 100 MB that a server without work of its own spares

    count, spared = Count(), _spared.flops
    with FlopCounterMode(display=False) as counter:
        yield count
    count.flops = counter.get_total_flops() + _spared.flops - spared


class Meter:
    """Adds up operations: each kind of work is counted the first time it runs and remembered by its key."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}
        self._rehearsed: dict[Hashable, tuple[Any, int]] = {}
        self._total = 0

    @contextmanager
    def measure(self, *key: Hashable) -> Iterator[None]:
        """Add the operations of the block, which are the same whenever `key` is."""
        if key in self._known:
            yield
        else:
            with counted() as count:
                yield
            self._known[key] = count.flops
        self._total += self._known[key]

    def steps(self, count: int) -> Iterator[int]:
        """The numbers of so many steps of equal operations; a rehearsal makes the first and counts it for all."""
        before, made = self._total, 1 if count and _rehearsing.get() else count
        yield from range(made)
        self._total += (count - made) * (self._total - before)

    def once(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """What `work` gives. A rehearsal does the work of a key once, and counts it again for each later time."""
        if not _rehearsing.get():
            return work()
        if key not in self._rehearsed:
            before, result = self._total, work()
            self._rehearsed[key] = result, self._total - before
            return result
        result, flops = self._rehearsed[key]
        self._total += flops
        return result

    def add(self, flops: int) -> None:
        """Add operations counted by hand."""
        self._total += flops

    def take(self) -> int:
        """The operations since the last `take`."""
        total, self._total = self._total, 0
        return total
