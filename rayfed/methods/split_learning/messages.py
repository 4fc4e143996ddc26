"""What the two halves say to each other."""

from dataclasses import dataclass

from rayfed.fleet.codec import Packed
from rayfed.ids import ClientId


@dataclass(frozen=True)
class Smashed:
    """What a device sends of a batch: f_a's output, and the labels, a value each."""

    client: ClientId
    values: Packed
    labels: Packed


@dataclass(frozen=True)
class Turn:
    """Which of a round's batches a call is about."""

    round: int
    number: int
    """Of the batch, from 0."""
    images: int
    """In the batch."""
    record: bool = False
    """Whether f_a, at the end, is for the run's record alone: no device comes after this one."""

    @property
    def kind(self) -> tuple[int, bool]:
        """What of it decides a call's cost."""
        return self.images, self.record
