"""FSL-GAN's clients, and which of each one's devices holds which blocks of the discriminator."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rayfed.config import FslGan, RunConfig
from rayfed.config.clients import Client
from rayfed.config.simulation import Lan, Twin, Wired
from rayfed.models.block import Block, merge, paper_ends
from rayfed.scheduling.placement import best_plan
from rayfed.scheduling.portions import Plan, iteration, misfit
from rayfed.seeding import generator
from rayfed.twin.profiles import away


@dataclass(frozen=True)
class Placement:
    """One client's plan: (device, the blocks it holds) in order; devices are numbered over all clients."""

    client: int
    stages: tuple[tuple[int, tuple[int, ...]], ...]
    step_seconds: float
    absent: tuple[int, ...] = ()
    """The client's devices that are gone or away."""


class ClientPlans:
    """Plans for an iteration on the twin, client by client."""

    def __init__(self, config: RunConfig, blocks: Sequence[Block]) -> None:
        """`blocks`: the discriminator's."""
        assert isinstance(config.method, FslGan)
        self._config, self._method = config, config.method
        self.slowness: dict[int, float] = {}
        """Device -> seconds of its computing over those of its profile, where that is not 1."""
        ends = paper_ends(len(blocks)) if self._method.portions == "paper" else tuple(range(1, len(blocks) + 1))
        self._portions = [tuple(range(first, end)) for first, end in pairwise((0, *ends))]
        twin = config.twin
        self._work = iteration(merge(blocks, ends), self._method.batch, twin.devices[0].flops_per_s, _hop_s(twin))

    def placements(self, round: int, gone: Collection[int]) -> list[Placement]:
        """Who holds which blocks in this round, client by client, without the devices `gone` or away.

        A client without a plan has no placement, nor has the slowest one if the method drops it.
        """
        config = self._config
        missing = away(config.hardware, config.nodes, round, config.seed) | set(gone)
        found = []
        for number, start, client in self._clients():
            here = [k for k in range(len(client.devices)) if start + k not in missing]
            if plan := self._best(number, client, here):
                stages = tuple((start + here[stage.device], self._blocks(stage.portions)) for stage in plan.stages)
                absent = tuple(start + k for k in range(len(client.devices)) if k not in here)
                found.append(Placement(number, stages, plan.step_seconds, absent))
        if self._method.drop_slowest and len(found) > 1:
            found.remove(max(found, key=lambda placement: placement.step_seconds))
        return found

    def misfits(self, gone: Collection[int]) -> dict[str, str]:
        """The clients that can never take part without the devices `gone`, and why."""
        strategy, found = self._method.strategy, {}
        for number, start, client in self._clients():
            here = [k for k in range(len(client.devices)) if start + k not in gone]
            if not self._best(number, client, here):
                fits = self._plan(number, client, here, "optimal")
                short = f"too few devices for {strategy}, though not for optimal"
                found[client.name] = short if fits else misfit(client, self._work)
        return found

    def _best(self, number: int, client: Client, here: Sequence[int]) -> Plan | None:
        """The strategy's plan; `optimal` takes its place where it has one for all devices, but none for those here."""
        plan, everyone = self._plan(number, client, here), range(len(client.devices))
        if plan or not self._plan(number, client, everyone):
            return plan
        return self._plan(number, client, here, "optimal")

    def _plan(self, number: int, client: Client, devices: Sequence[int], strategy: str | None = None) -> Plan | None:
        rng = generator(self._config.seed, 0, number, "placement")
        return best_plan(client, devices, self._work, strategy or self._method.strategy, rng)

    def _blocks(self, portions: Sequence[int]) -> tuple[int, ...]:
        return tuple(block for portion in portions for block in self._portions[portion])

    def _clients(self) -> Iterator[tuple[int, int, Client]]:
        """(number, first device, client), with links and time factors as on the twin, and as measured since."""
        twin, start = self._config.hardware, 0
        speed, network = self._config.twin.devices[0].flops_per_s, twin.network
        default = (network.up_mbps, network.down_mbps) if isinstance(network, Wired) else (None, None)
        for number, client in enumerate(self._method.clients):
            devices = []
            for k, device in enumerate(client.devices, start):
                profile = twin.devices[k]
                slowness = self.slowness.get(k, 1.0) * speed / profile.flops_per_s
                changes = {
                    "time_factor": profile.time_factor * slowness,
                    "up_mbps": profile.up_mbps or default[0],
                    "down_mbps": profile.down_mbps or default[1],
                }
                devices.append(device.model_copy(update=changes))
            yield number, start, client.model_copy(update={"devices": tuple(devices)})
            start += len(client.devices)


def _hop_s(twin: Twin) -> float:
    """What a transfer from device to device takes beside its bytes."""
    match twin.network:
        case Lan(hop_s=hop):
            return hop
        case Wired(latency_s=latency):
            return 2 * latency
    return 0.0
