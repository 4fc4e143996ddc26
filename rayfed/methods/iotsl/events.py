"""What IoTSL's runs tell: who draws for whom, budgets, generators that did not come."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rayfed.events import Event


@dataclass(frozen=True)
class Paired(Event):
    """A defective device gets the missing classes from other devices' generators."""

    kind: ClassVar[str] = "paired"
    device: int
    classes: tuple[int, ...]
    partners: tuple[int, ...]
    samples: int

    def sentence(self) -> str:
        """See `Event.sentence`."""
        drawn_by = "generator" if len(self.partners) == 1 else "generators"
        return (
            f"device {self.device} lacks {numbers('class', self.classes, 'classes')}: {self.samples} samples are "
            f"drawn by the {drawn_by} of {numbers('device', self.partners)}"
        )


@dataclass(frozen=True)
class BudgetSpent(Event):
    """The privacy budgets after a round of step 1."""

    kind: ClassVar[str] = "budget-spent"
    epsilons: tuple[float, ...]
    """Of each device, in their order."""
    delta: float
    ended: tuple[int, ...] = ()
    """The devices that privacy.epsilon allows no further step."""

    def sentence(self) -> str:
        """See `Event.sentence`."""
        least, most = f"{min(self.epsilons):.4g}", f"{max(self.epsilons):.4g}"
        worst = "" if least == most else f" to {most} (device {int(np.argmax(self.epsilons))})"
        ended = f"; it allows {numbers('device', self.ended)} no further step" if self.ended else ""
        return f"the generators have spent epsilon {least}{worst} at delta {self.delta:g}{ended}"


@dataclass(frozen=True)
class WithoutGenerator(Event):
    """Devices whose generators did not come in the last round of step 1."""

    kind: ClassVar[str] = "without-generator"
    devices: tuple[int, ...]

    def sentence(self) -> str:
        """See `Event.sentence`."""
        one = len(self.devices) == 1
        return (
            f"no generator has come from {numbers('device', self.devices)}: nothing is drawn by "
            f"{'it, and it gets' if one else 'them, and they get'} no missing classes"
        )


def numbers(what: str, numbers: Iterable[int], plural: str = "") -> str:
    """What they are and which, as in `devices 1, 3`."""
    found = list(map(str, numbers))
    return f"{what if len(found) == 1 else plural or what + 's'} {', '.join(found)}"
