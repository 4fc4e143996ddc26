"""What methods that train a classifier can be told."""

from typing import Annotated, ClassVar

from pydantic import Field

from rayfed.config.sections import Count
from rayfed.config.training import Keeping, Training


class ClassifierTraining(Training):
    """Local epochs of a classifier."""

    iterations: Annotated[int, Field(ge=0)] = 0
    """The batches that a device trains on in a round. 0 means an epoch: all that it holds, once."""
    moments: Keeping = "keep"
    """Whether Adam's moments, the optimizer state, stay where they are between rounds (`keep`) or start at zero each
    round (`fresh`)."""

    @property
    def keeps_optimizer_state(self) -> bool:
        """See `Training.keeps_optimizer_state`."""
        return self.moments == "keep"


class SplitTraining(ClassifierTraining):
    """A classifier of which the devices have the first layers, f_a, and the server has the rest, f_b."""

    cut: Count = 2
    """The layers with weights of f_a. The smashed data is what the last of them, its activation and pooling give."""


class PooledTraining(ClassifierTraining):
    """All data in one place: the reference."""

    pools_data: ClassVar[bool] = True

    def participants(self, devices: int) -> int:
        """The one place."""
        return 1
