"""Floating-point operations of training steps, as torch's FlopCounterMode counts them."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Meter:
    """Adds up operations: each kind of work is counted the first time it runs and remembered by its key.

    Convolutions and matrix products forward and backward count, two operations per multiply-add; element-wise work
    (activations, BatchNorm, Adam) does not.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}
        self._total = 0

    @contextmanager
    def measure(self, *key: Hashable) -> Iterator[None]:
        """Add the operations of the block, which are the same whenever `key` is."""
        if key in self._known:
            yield
        else:
            from torch.utils.flop_counter import FlopCounterMode  # 100 MB that a server without work of its own spares

            with FlopCounterMode(display=False) as counter:
                yield
            self._known[key] = counter.get_total_flops()
        self._total += self._known[key]

    def add(self, flops: int) -> None:
        """Add operations counted by hand."""
        self._total += flops

    def take(self) -> int:
        """The operations since the last `take`."""
        total, self._total = self._total, 0
        return total
