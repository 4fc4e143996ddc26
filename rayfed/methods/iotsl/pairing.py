"""IoTSL's Algorithm 2: which device is defective, and whose generators draw what it lacks."""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Plan = dict[int, dict[int, int]]
"""Whose generator -> class -> how many samples it draws."""


def lacking(counts: Counts, everyone: npt.NDArray[np.bool_], scarce: float) -> dict[int, int]:
    """How many samples of each class a device lacks, of its own class counts [classes]; empty if it is not defective.

    A class that anybody has (`everyone` [classes]) is missing if the device has none, or fewer than `scarce` times the
    mean of the classes that it has; it is filled up to that mean (section IV-C).
    """
    mean = counts[counts > 0].mean()
    missing = everyone & ((counts == 0) | (counts < scarce * mean))
    return {int(c): round(mean) - int(counts[c]) for c in np.flatnonzero(missing)}


def paired(device: int, log: Counts, scarce: float) -> Plan:
    """Whose generators draw what `device` lacks, of the generation log [K, classes]; empty if it is not defective.

    One generator that covers all of it if there is one, the first in the order of the devices; else the one that
    covers most of what is still missing, and so on. A generator covers the classes that its device does not lack; for
    what none covers, those that its device has at all.
    """
    everyone = log.sum(axis=0) > 0
    lacks = lacking(log[device], everyone, scarce)
    has = {other: set(np.flatnonzero(log[other]).tolist()) for other in range(len(log)) if other != device}
    covers = {other: classes - set(lacking(log[other], everyone, scarce)) for other, classes in has.items() if classes}
    remaining, plan = set(lacks), Plan()
    for able in (covers, has):
        while (best := _most(able, remaining)) is not None:
            filled = able[best] & remaining
            plan[best] = plan.get(best, {}) | {c: lacks[c] for c in sorted(filled)}
            remaining -= filled
    return plan


def _most(able: dict[int, set[int]], remaining: set[int]) -> int | None:
    """Who is able to draw most of what remains, the first of them; None if nobody can draw any."""
    best = max(able, key=lambda other: (len(able[other] & remaining), -other), default=None)
    return best if best is not None and able[best] & remaining else None
