"""The best of all placements of consecutive portions on a client's devices, exactly, for many clients at once.

Dynamic programming over (first portion not yet placed, devices used so far, the device that takes it). The cost to go
from such a state is the least, over the end of the device's run and the device after it, of the run's stage combined
with the cost to go from there: their sum for the time of a step, the larger of the two for the slowest stage.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rayfed.config.clients import Client
from rayfed.errors import UserError
from rayfed.scheduling.portions import Plan, Workload, evaluate, heuristics, misfit, seconds_per_byte
from rayfed.seeding import generator

Seconds = NDArray[np.float64]
MAX_DEVICES = 14
"""Of one client, once those that cannot matter are left out: the states double with each."""
BATCH = 64
"""Clients at once: few enough for the processor's cache, many enough to hide the cost of a call to numpy."""


def all_plans(clients: Sequence[Client], work: Workload, seed: int) -> dict[str, dict[str, Plan | None]]:
    """client -> strategy -> its plan; None where the devices cannot hold all portions in that way.

    The strategies are the paper's four, drawn from `seed`, then `optimal` and `pipelined`. A client without an
    optimal plan has none; raises UserError when that is so for all.
    """
    best, flowing = optimal(clients, work), pipelined(clients, work)
    if not any(best):
        raise UserError(f"no client fits; client {clients[0].name}: {misfit(clients[0], work)}")
    found = {}
    for index, client in enumerate(clients):
        plans = heuristics(client, work, generator(seed, 0, index, "placement"))
        found[client.name] = plans | {"optimal": best[index], "pipelined": flowing[index]}
    return found


def plans_by(
    strategy: str, clients: Sequence[Client], work: Workload, rngs: Sequence[np.random.Generator]
) -> list[Plan | None]:
    """A strategy's plan of each client; None where its devices cannot hold all portions in that way.

    `rngs`: one for each client, for the random strategies.
    """
    if strategy == "optimal":
        return optimal(clients, work)
    if strategy == "pipelined":
        return pipelined(clients, work)
    return [heuristics(client, work, rng)[strategy] for client, rng in zip(clients, rngs, strict=True)]


def optimal(clients: Sequence[Client], work: Workload) -> list[Plan | None]:
    """The plan with the fastest step of each client; None where its devices cannot hold the discriminator.

    Raises UserError for a client with more than MAX_DEVICES devices that matter.
    """
    plans: list[Plan | None] = [None] * len(clients)
    for indices, kept, stages in _batches(clients, work):
        _record(plans, indices, kept, clients, work, stages)
    return plans


def pipelined(clients: Sequence[Client], work: Workload) -> list[Plan | None]:
    """As `optimal`, the plan with the fastest slowest stage; of several, the one with the fastest step.

    Devices that work on several batches at once end a batch each `bottleneck_seconds`.
    """
    plans: list[Plan | None] = [None] * len(clients)
    for indices, kept, stages in _batches(clients, work):
        togo = _costs_to_go(stages, np.maximum)
        devices = np.arange(togo.shape[1])
        bottleneck = togo[0, devices, 1 << devices].min(axis=0)
        _record(plans, indices, kept, clients, work, np.where(stages > bottleneck, np.inf, stages))
    return plans


def relevant(client: Client, work: Workload) -> list[int]:
    """The devices that a best plan may need: those that can hold a portion, and have few that are better in everything.

    A plan uses one device per portion at most. Of as many devices that are each at least as large, as fast and as well
    linked as some other, one is therefore free to take the other's place, in no more time.
    """
    devices = [k for k, device in enumerate(client.devices) if device.capacity >= min(work.parameters)]
    traits = np.array([_traits(client, work, k) for k in devices]).reshape(-1, 4)
    at_least = (traits[:, None] >= traits).all(axis=2)
    later = np.tri(len(devices), dtype=bool)  # of two that are equal, the first counts as better
    better = at_least & ~(at_least.T & later)
    return [k for k, betters in zip(devices, better.sum(axis=0), strict=True) if betters < work.portions]


def _traits(client: Client, work: Workload, k: int) -> tuple[float, float, float, float]:
    device = client.devices[k]
    usable = min(device.capacity, work.size)
    return usable, -device.time_factor, device.up_mbps or np.inf, device.down_mbps or np.inf


def _batches(clients: Sequence[Client], work: Workload) -> Iterator[tuple[list[int], list[list[int]], Seconds]]:
    """Clients with as many relevant devices: their indices, those devices, and their stages."""
    kept = [relevant(client, work) for client in clients]
    alike: defaultdict[int, list[int]] = defaultdict(list)
    for index, devices in enumerate(kept):
        if len(devices) > MAX_DEVICES:
            raise UserError(
                f"client {clients[index].name}: {len(devices)} devices, any of which may matter; the exact plan takes "
                f"{MAX_DEVICES} at most"
            )
        if devices:
            alike[len(devices)].append(index)
    for indices in alike.values():
        for first in range(0, len(indices), BATCH):
            batch = indices[first : first + BATCH]
            chosen = [kept[index] for index in batch]
            yield batch, chosen, _stages([clients[index] for index in batch], chosen, work)


def _stages(clients: Sequence[Client], kept: Sequence[Sequence[int]], work: Workload) -> Seconds:
    """[P, P + 1, D, D + 1, C]: seconds of the stage of portions first to end - 1 on a device before another.

    The last of the second devices is nobody, after the end. Infinite: the device cannot hold them, or no such stage.
    """
    devices = [[client.devices[k] for k in chosen] for client, chosen in zip(clients, kept, strict=True)]
    capacity = np.array([[device.capacity for device in row] for row in devices]).T
    factor = np.array([[device.time_factor for device in row] for row in devices]).T
    links = np.stack([seconds_per_byte(c)[np.ix_(k, k)] for c, k in zip(clients, kept, strict=True)], axis=-1)
    nobody = len(capacity)
    stages = np.full((work.portions, work.portions + 1, nobody, nobody + 1, len(clients)), np.inf)
    for first in range(work.portions):
        for end in range(first + 1, work.portions + 1):
            compute = sum(work.compute_s[first:end]) * factor
            compute[capacity < sum(work.parameters[first:end])] = np.inf
            if end == work.portions:
                stages[first, end, :, nobody] = compute
            else:
                stages[first, end, :, :nobody] = compute[:, None] + (2 * work.hop_s + work.nbytes[end - 1] * links)
    return stages


def _costs_to_go(stages: Seconds, combine: np.ufunc) -> Seconds:
    """[P, D, 2^D, C]: the least cost from where device d takes portion p, the devices of a bit mask (d too) being used.

    At portion p at most p + 1 devices are used; the costs of other masks are not computed.
    """
    portions, _, devices, _, clients = stages.shape
    masks = np.arange(1 << devices)
    used = (masks[:, None] >> np.arange(devices) & 1).astype(bool)
    togo = np.full((portions, devices, len(masks), clients), np.inf)
    for p in reversed(range(portions)):
        togo[p] = stages[p, portions, :, devices, None]
        if p == portions - 1:
            continue
        reachable = used.sum(axis=1) <= p + 1
        for d in range(devices):
            for j in range(devices):
                before = masks[reachable & used[:, d] & ~used[:, j]]
                if before.size:
                    after = togo[p + 1 :, j, before | 1 << j]
                    stage = stages[p, p + 1 : portions, d, j, None]
                    togo[p, d, before] = np.minimum(togo[p, d, before], combine(stage, after).min(axis=0))
    return togo


def _record(
    plans: list[Plan | None],
    indices: Sequence[int],
    kept: Sequence[Sequence[int]],
    clients: Sequence[Client],
    work: Workload,
    stages: Seconds,
) -> None:
    """Enter the plans with the least sum of stages."""
    togo = _costs_to_go(stages, np.add)
    for column, (index, devices) in enumerate(zip(indices, kept, strict=True)):
        if places := _walk(stages[..., column], togo[..., column]):
            plans[index] = evaluate(clients[index], work, [devices[place] for place in places])


def _walk(stages: Seconds, togo: Seconds) -> list[int]:
    """The device of each portion along the least sums, of one client; empty where there is no way."""
    portions, _, devices, _ = stages.shape
    every = np.arange(devices)
    d = int(togo[0, every, 1 << every].argmin())
    p, mask, places = 0, 1 << d, list[int]()
    if togo[0, d, mask] == np.inf:
        return places
    while True:
        onwards = stages[p, p + 1 : portions, d, :devices] + togo[p + 1 :, every, mask | 1 << every]
        onwards[:, (mask >> every & 1).astype(bool)] = np.inf
        if not onwards.size or stages[p, portions, d, devices] <= onwards.min():
            return places + [d] * (portions - p)
        run, following = np.unravel_index(onwards.argmin(), onwards.shape)
        places += [d] * (int(run) + 1)
        p, d, mask = p + int(run) + 1, int(following), mask | 1 << int(following)
