"""The registry of devices and what is decided from it: who takes part, how much each does, who holds what."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayfed.config import FederatedTraining, FslGan, RunConfig
from rayfed.config.clients import Client
from rayfed.config.simulation import Lan, Twin, Wired
from rayfed.models.block import Block, merge, paper_ends
from rayfed.scheduling import load, sampling
from rayfed.scheduling.load import Load
from rayfed.scheduling.placement import best_plan
from rayfed.scheduling.portions import Plan, Workload, iteration, misfit
from rayfed.seeding import SERVER, generator
from rayfed.twin.network import Network
from rayfed.twin.profiles import away

UNLIMITED_BPS = 1e15
"""What counts as the rate of a link without limit (a LAN's), so that it can be averaged."""

SamplerState = dict[str, Any]
"""JSON: what the sampler carries from round to round; empty for those that carry nothing."""


@dataclass(frozen=True)
class Placement:
    """One client's plan: (device, the blocks it holds) in order; devices are numbered over all clients."""

    client: int
    stages: tuple[tuple[int, tuple[int, ...]], ...]
    step_seconds: float
    absent: tuple[int, ...] = ()
    """The client's devices that are gone or away."""


class Scheduler:
    """Knows each device's class counts [K, C], capabilities and link; pure but for this registry.

    Random choices are keyed by (seed, round), so a resumed run draws what the unbroken run drew.
    """

    def __init__(self, config: RunConfig, counts: NDArray[np.int64], blocks: Sequence[Block] = ()) -> None:
        """`blocks`: the discriminator's, for methods that split it."""
        self.config = config
        self.blocks = blocks
        self.counts = counts
        self.capabilities = load.capabilities(config.devices, config.seed)
        self._loads = self._all_loads()
        self._slowness: dict[int, float] = {}
        rates = Network(config.twin, len(counts), config.seed).rates(config.participants)
        self._rates = np.minimum(rates, UNLIMITED_BPS)

    def class_counts(self) -> NDArray[np.int64]:
        """Samples per device and class [K, C]."""
        return self.counts

    def start(self) -> SamplerState:
        """The sampler's state before the first round."""
        match self._sampling:
            case "balanced":
                return {"queues": sampling.class_queues(self.counts), "seen": [0] * self.counts.shape[1]}
            case "proportional-fair":
                return {"served": [0.0] * len(self.counts)}
        return {}

    def select(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]:
        """The round's group, in the order drawn, and the sampler's next state.

        A device that the twin's profile has drop out of this round is drawn, and left out.
        """
        group, state = self._draw(round, state)
        missing = away(self.config.twin, len(self.counts), round, self.config.seed)
        return [device for device in group if device not in missing], state

    def _draw(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]:
        devices, size = len(self.counts), self.config.participants
        match self._sampling:
            case "all":
                return list(range(devices)), state
            case "balanced":
                seen = np.array(state["seen"], dtype=np.int64)
                group, queues, seen = sampling.balanced(self.counts, size, state["queues"], seen)
                return group, {"queues": queues, "seen": seen.tolist()}
            case "round-robin":
                return sampling.round_robin(devices, size, round), state
            case "best-channel":
                return sampling.best_channel(self._rates, size), state
            case "proportional-fair":
                group, served = sampling.proportional_fair(self._rates, size, np.array(state["served"]))
                return group, {"served": served.tolist()}
        return sampling.uniform(devices, size, generator(self.config.seed, round, SERVER, "sampling")), state

    def loads(self, group: list[int]) -> list[Load]:
        """The training load of each device of a group; fixed for the run."""
        return [self._loads[k] for k in group]

    def assume(self, slowness: Mapping[int, float]) -> None:
        """Plan from now on as measured: these devices compute for so many times the seconds of their profile."""
        self._slowness |= slowness

    def placements(self, round: int, gone: Collection[int]) -> list[Placement]:
        """Who holds which blocks in this round, client by client, without the devices `gone` or away.

        Where such are missing and the others cannot hold the discriminator in the way of the strategy, `optimal` takes
        its place. A client without a plan has no placement, nor has the slowest one if the method drops it.
        """
        method = self._fsl_gan
        missing = away(self.config.hardware, self.config.nodes, round, self.config.seed) | set(gone)
        found, start = [], 0
        for number, client in enumerate(self._clients(method)):
            here = [k for k in range(len(client.devices)) if start + k not in missing]
            plan = self._plan(number, client, here, method.strategy)
            if not plan and len(here) < len(client.devices):
                plan = self._plan(number, client, here, "optimal")
            if plan:
                stages = [
                    (
                        start + here[stage.device],
                        tuple(b for portion in stage.portions for b in self._portions[portion]),
                    )
                    for stage in plan.stages
                ]
                absent = [start + k for k in range(len(client.devices)) if k not in here]
                found.append(Placement(number, tuple(stages), plan.step_seconds, tuple(absent)))
            start += len(client.devices)
        if method.drop_slowest and len(found) > 1:
            found.remove(max(found, key=lambda placement: placement.step_seconds))
        return found

    def misfits(self) -> dict[str, str]:
        """The clients that can never take part, and why."""
        method, found = self._fsl_gan, {}
        for number, client in enumerate(self._clients(method)):
            everyone = range(len(client.devices))
            if not self._plan(number, client, everyone, method.strategy):
                fits = self._plan(number, client, everyone, "optimal")
                short = f"too few devices for {method.strategy}, though not for optimal"
                found[client.name] = short if fits else misfit(client, self._work)
        return found

    def _plan(self, number: int, client: Client, devices: Sequence[int], strategy: str) -> Plan | None:
        return best_plan(client, devices, self._work, strategy, generator(self.config.seed, 0, number, "placement"))

    @property
    def _fsl_gan(self) -> FslGan:
        assert isinstance(self.config.method, FslGan)
        return self.config.method

    @cached_property
    def _portions(self) -> list[tuple[int, ...]]:
        """The blocks of each portion."""
        return [tuple(range(first, end)) for first, end in pairwise((0, *self._ends))]

    @property
    def _ends(self) -> tuple[int, ...]:
        count = len(self.blocks)
        return paper_ends(count) if self._fsl_gan.portions == "paper" else tuple(range(1, count + 1))

    @cached_property
    def _work(self) -> Workload:
        twin, portions = self.config.twin, merge(self.blocks, self._ends)
        return iteration(portions, self._fsl_gan.batch, twin.devices[0].flops_per_s, _hop_s(twin))

    def _clients(self, method: FslGan) -> Iterator[Client]:
        """The clients with links and time factors as the twin has them, and as they were measured since."""
        twin, number = self.config.hardware, 0
        speed, network = self.config.twin.devices[0].flops_per_s, twin.network
        default = (network.up_mbps, network.down_mbps) if isinstance(network, Wired) else (None, None)
        for client in method.clients:
            devices = []
            for device in client.devices:
                profile = twin.devices[number]
                slowness = self._slowness.get(number, 1.0) * speed / profile.flops_per_s
                changes = {
                    "time_factor": profile.time_factor * slowness,
                    "up_mbps": profile.up_mbps or default[0],
                    "down_mbps": profile.down_mbps or default[1],
                }
                devices.append(device.model_copy(update=changes))
                number += 1
            yield client.model_copy(update={"devices": tuple(devices)})

    def _all_loads(self) -> list[Load]:
        method, samples = self.config.method, self.counts.sum(axis=1)
        if isinstance(method, FederatedTraining) and method.load == "linear":
            return load.linear_load(samples, self.capabilities, method.batch, method.local_steps)
        return load.equal_load(samples, method.batch, method.local_steps)

    @property
    def _sampling(self) -> str:
        method = self.config.method
        return method.sampling if isinstance(method, FederatedTraining) else "all"


def _hop_s(twin: Twin) -> float:
    """What a transfer from device to device takes beside its bytes."""
    match twin.network:
        case Lan(hop_s=hop):
            return hop
        case Wired(latency_s=latency):
            return 2 * latency
    return 0.0
