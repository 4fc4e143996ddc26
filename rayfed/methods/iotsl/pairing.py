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
    covers most of what is still missing, and so on. A generator covers the classes that its device does not lack.
    """
    everyone = log.sum(axis=0) > 0
    lacks = lacking(log[device], everyone, scarce)
    covers = {
        other: set(np.flatnonzero(log[other]).tolist()) - set(lacking(log[other], everyone, scarce))
        for other in range(len(log))
        if other != device and log[other].any()
    }
    remaining, plan = set(lacks), Plan()
    while remaining:
        best = max(covers, key=lambda other: (len(covers[other] & remaining), -other), default=None)
        if best is None or not covers[best] & remaining:
            break
        plan[best] = {c: lacks[c] for c in sorted(covers[best] & remaining)}
        remaining -= covers[best]
    return plan
