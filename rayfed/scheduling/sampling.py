"""Who takes part in a round."""

import numpy as np
from numpy.typing import NDArray

Queues = list[list[int]]


def uniform(devices: int, size: int, rng: np.random.Generator) -> list[int]:
    """`size` of `devices` devices, uniformly without replacement."""
    return [int(k) for k in rng.choice(devices, size, replace=False)]


def class_queues(counts: NDArray[np.int64]) -> Queues:
    """One queue per class of the devices that own it, from the highest index to the lowest. counts [K, C]."""
    return [[int(k) for k in np.flatnonzero(owned)[::-1]] for owned in counts.T]


def turned(queues: Queues, turns: list[int]) -> Queues:
    """The queues after so many turns of each: all that balanced sampling ever does to them."""
    return [queue[turn:] + queue[:turn] for queue, turn in zip(queues, turns, strict=True)]


def turns_of(queues: Queues, later: Queues) -> list[int]:
    """By how many turns each of the later queues is ahead."""
    return [queue.index(other[0]) if queue else 0 for queue, other in zip(queues, later, strict=True)]


def balanced(
    counts: NDArray[np.int64], size: int, queues: Queues, seen: NDArray[np.int64]
) -> tuple[list[int], Queues, NDArray[np.int64]]:
    """FeGAN's balanced sampling (section 3.3): always draw for the class that the server has seen least of.

    counts [K, C] samples per device and class; `queues` as `class_queues` made them or a former call left them;
    `seen` [C] samples per class seen so far. The least-seen class's queue is turned until a device that is not
    yet in the group comes up; if a whole turn finds none, the next-least-seen class draws. Ties go to the lower
    class. Devices without any sample are drawn last, in index order.

    Returns the group [size] in the order drawn, and the queues and counters for the next round.
    """
    queues, seen = [list(queue) for queue in queues], seen.copy()
    group: list[int] = []
    while len(group) < size:
        device = _draw(queues, seen, group)
        if device is None:
            group += [k for k in range(len(counts)) if k not in group][: size - len(group)]
            break
        group.append(device)
        seen += counts[device]
    return group, queues, seen


def _draw(queues: Queues, seen: NDArray[np.int64], group: list[int]) -> int | None:
    for label in np.argsort(seen, kind="stable"):
        queue = queues[label]
        for _ in range(len(queue)):
            device: int = queue.pop(0)
            queue.append(device)
            if device not in group:
                return device
    return None


def round_robin(devices: int, size: int, round: int) -> list[int]:
    """The next `size` of `devices` devices in index order, going on where round - 1 ended; rounds count from 1."""
    return [((round - 1) * size + i) % devices for i in range(size)]


def best_channel(rates: NDArray[np.float64], size: int) -> list[int]:
    """The `size` devices with the highest rates [K], the lower index first where rates are equal."""
    return [int(k) for k in np.argsort(-rates, kind="stable")[:size]]


WINDOW = 10
"""Rounds over which proportional fair scheduling averages what a device was served."""


def proportional_fair(
    rates: NDArray[np.float64], size: int, served: NDArray[np.float64]
) -> tuple[list[int], NDArray[np.float64]]:
    """The `size` devices with the highest rate / average served rate, and the averages for the next round.

    rates [K]: what each device could be served now. served [K]: exponential averages over WINDOW rounds of what it was
    served, 0 for a device never drawn: such devices come first, the highest rate ahead.
    """
    metric = np.divide(rates, served, out=np.full(len(rates), np.inf), where=served > 0)
    group = [int(k) for k in np.lexsort((-rates, -metric))[:size]]
    now = np.zeros(len(rates))
    now[group] = rates[group]
    return group, (1 - 1 / WINDOW) * served + now / WINDOW
