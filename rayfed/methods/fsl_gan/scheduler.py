"""FSL-GAN's clients, and which of each one's devices holds which blocks of the discriminator (section 4)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from rayfed.config import RunConfig
from rayfed.config.clients import Client
from rayfed.config.simulation import Lan, Twin, Wired
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.fsl_gan.settings import hardware, settings_of
from rayfed.models.block import Block, merge, paper_ends
from rayfed.scheduling.placement import plans_by
from rayfed.scheduling.portions import Plan, iteration, misfit
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import generator
from rayfed.twin.profiles import away

Here = tuple[int, ...]
"""The indices of a client's devices that are there."""


@dataclass(frozen=True)
class Placement:
    """One client's plan: (device, the blocks it holds) in order; devices are numbered over all clients."""

    client: ClientId
    stages: tuple[tuple[DeviceId, tuple[int, ...]], ...]
    step_seconds: float
    absent: tuple[DeviceId, ...] = ()
    """The client's devices that are gone or away."""


class ClientScheduler(Scheduler):
    """The registry of clients that also decides which of a client's devices holds which blocks."""

    def __init__(self, config: RunConfig, counts: NDArray[np.int64], blocks: Sequence[Block]) -> None:
        """`blocks`: the discriminator's."""
        super().__init__(config, counts)
        self._plans = ClientPlans(config, blocks)

    def placements(self, round: int, gone: Collection[DeviceId]) -> list[Placement]:
        """Who holds which blocks in this round; see `ClientPlans.placements`."""
        return self._plans.placements(round, gone)

    def misfits(self, gone: Collection[DeviceId] = ()) -> dict[str, str]:
        """The clients that can never take part without the devices `gone`, and why."""
        return self._plans.misfits(gone)

    def assume(self, slowness: Mapping[DeviceId, float]) -> None:
        """Plan from now on as measured: these devices compute for so many times the seconds of their profile."""
        self._plans.assume(slowness)


class ClientPlans:
    """Plans for an iteration on the twin, all clients at once; those of clients for which nothing changed are kept."""

    def __init__(self, config: RunConfig, blocks: Sequence[Block]) -> None:
        """`blocks`: the discriminator's."""
        self._config, self._method = config, settings_of(config)
        ends = paper_ends(len(blocks)) if self._method.portions == "paper" else tuple(range(1, len(blocks) + 1))
        self._portions = [tuple(range(first, end)) for first, end in pairwise((0, *ends))]
        twin, self._hardware = config.twin, hardware(config)
        self._work = iteration(merge(blocks, ends), self._method.batch, twin.devices[0].flops_per_s, _hop_s(twin))
        sizes = [len(client.devices) for client in self._method.clients]
        self._starts = [0, *accumulate(sizes)][:-1]
        self._slowness: dict[DeviceId, float] = {}
        self.assume({})

    def assume(self, slowness: Mapping[DeviceId, float]) -> None:
        """These devices compute for so many times the seconds of their profile."""
        self._slowness |= slowness
        self._clients = list(self._on_the_twin())
        self._found: dict[tuple[str, int], tuple[Here, Plan | None]] = {}

    def placements(self, round: int, gone: Collection[DeviceId]) -> list[Placement]:
        """Who holds which blocks in this round, client by client, without the devices `gone` or away.

        A client without a plan has no placement.
        """
        config = self._config
        here = self._here(away(self._hardware, len(self._hardware.devices), round, config.seed) | set(gone))
        found = []
        for number, plan in enumerate(self._best(here)):
            if plan:
                start, everyone = self._starts[number], range(len(self._clients[number].devices))
                stages = tuple(
                    (DeviceId(start + here[number][stage.device]), self._blocks(stage.portions))
                    for stage in plan.stages
                )
                absent = tuple(DeviceId(start + k) for k in everyone if k not in here[number])
                found.append(Placement(ClientId(number), stages, plan.step_seconds, absent))
        return found

    def misfits(self, gone: Collection[DeviceId]) -> dict[str, str]:
        """The clients that can never take part without the devices `gone`, and why."""
        here, found = self._here(gone), {}
        without = [number for number, plan in enumerate(self._best(here)) if not plan]
        fits = self._planned({number: here[number] for number in without}, "optimal")
        for number in without:
            short = f"too few devices for {self._method.strategy}, though not for optimal"
            client = self._clients[number]
            found[client.name] = short if fits[number] else misfit(client, self._work)
        return found

    def _here(self, missing: Collection[int]) -> list[Here]:
        pairs = zip(self._clients, self._starts, strict=True)
        return [tuple(k for k in range(len(client.devices)) if start + k not in missing) for client, start in pairs]

    def _best(self, here: Sequence[Here]) -> list[Plan | None]:
        """The strategy's plans; `optimal` takes its place where it has one for all devices, but none for those here."""
        strategy = self._method.strategy
        every = {number: tuple(range(len(client.devices))) for number, client in enumerate(self._clients)}
        plans = self._planned(dict(enumerate(here)), strategy)
        short = [number for number, plan in plans.items() if not plan and here[number] != every[number]]
        whole = self._planned({number: every[number] for number in short}, strategy)
        plans |= self._planned({number: here[number] for number in short if whole[number]}, "optimal")
        return list(plans.values())

    def _planned(self, here: Mapping[int, Here], strategy: str) -> dict[int, Plan | None]:
        """A strategy's plans for these clients; a stage's device is an index into the client's `here`."""
        new = [k for k in here if self._found.get((strategy, k), (None, None))[0] != here[k]]
        clients = [self._clients[k] for k in new]
        rests = [
            client.model_copy(update={"devices": tuple(client.devices[d] for d in here[k])})
            for k, client in zip(new, clients, strict=True)
        ]
        rngs = [generator(self._config.seed, 0, k, "placement") for k in new]
        for k, plan in zip(new, plans_by(strategy, rests, self._work, rngs), strict=True):
            self._found[strategy, k] = here[k], plan
        return {k: self._found[strategy, k][1] for k in here}

    def _blocks(self, portions: Sequence[int]) -> tuple[int, ...]:
        return tuple(block for portion in portions for block in self._portions[portion])

    def _on_the_twin(self) -> Iterator[Client]:
        """The clients with links and time factors as on the twin, and as measured since."""
        twin, speed = self._hardware, self._config.twin.devices[0].flops_per_s
        network = twin.network
        default = (network.up_mbps, network.down_mbps) if isinstance(network, Wired) else (None, None)
        for start, client in zip(self._starts, self._method.clients, strict=True):
            devices = []
            for k, device in enumerate(client.devices, start):
                profile = twin.devices[k]
                slowness = self._slowness.get(DeviceId(k), 1.0) * speed / profile.flops_per_s
                changes = {
                    "time_factor": profile.time_factor * slowness,
                    "up_mbps": profile.up_mbps or default[0],
                    "down_mbps": profile.down_mbps or default[1],
                }
                devices.append(device.model_copy(update=changes))
            yield client.model_copy(update={"devices": tuple(devices)})


def _hop_s(twin: Twin) -> float:
    """What a transfer from device to device takes beside its bytes."""
    match twin.network:
        case Lan(hop_s=hop):
            return hop
        case Wired(latency_s=latency):
            return 2 * latency
    return 0.0
