"""FSL-GAN's chains: each client's devices in the order of their portions, begun each round and mended when one is lost.

A block that moves to another device takes Adam's moments along, if its old device is there. So a plan that changes
between rounds changes no weight. A device that is lost in the middle of a round takes what its client learnt in it
along: the client begins again with the last commit's weights, on a new plan, or sits out until the device is back.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayfed.algorithms.common import Scheduler
from rayfed.algorithms.fsl_messages import Passed, Stage
from rayfed.config import FslGan
from rayfed.errors import CapacityError
from rayfed.fleet.protocol import Fleet, Future, Handle, Missing
from rayfed.scheduling.clients import Placement
from rayfed.scheduling.load import Load

PING_S = 30.0
"""How long a device may take to say that it is there, where the method has no deadline."""
BACK_S = 1.0
"""How long a round's start waits for the answers of devices that were gone."""
Plan = list[list[Any]]
"""JSON: [device, [its blocks]] in the order of the blocks."""
Facts = dict[str, Any]
"""JSON."""


@dataclass(eq=False)
class Chain:
    """A client's devices in this round: (device, stage) in the order of the portions."""

    client: int
    load: Load
    links: list[tuple[int, Stage]]
    replies: list[list[Passed]] = field(default_factory=list)
    """Per iteration, the first device's replies to the passes for G, one per micro-batch."""
    fault: str = ""
    """What was wrong with the replies of a chain whose devices all answer."""


class Planner:
    """One round's chains. From round to round it remembers each client's plan, and the devices that are gone."""

    def __init__(
        self, method: FslGan, scheduler: Scheduler, fleet: Fleet, round: int, weights: Sequence[Handle], facts: Facts
    ) -> None:
        """`weights`: the last commit's, a handle per block; `facts`: what the round before gave."""
        self.method, self.scheduler, self.fleet = method, scheduler, fleet
        self.round, self.weights = round, weights
        self.held: dict[int, Plan] = {int(client): plan for client, plan in facts.get("held", {}).items()}
        self.gone: set[int] = set(facts.get("gone", ()))
        self.dropped: int | None = facts.get("dropped")
        self.events: list[str] = []

    def facts(self) -> Facts:
        """What the next round must know, as JSON."""
        held = {str(client): plan for client, plan in self.held.items()}
        return {"held": held, "gone": sorted(self.gone), "dropped": self.dropped}

    def begin(self) -> list[Chain]:
        """The round's chains, each device holding its portion.

        Raises CapacityError when so many devices are gone that no client can ever take part.
        """
        self._welcome(BACK_S)
        if self._nobody_left():
            self._welcome(PING_S)
        if self._nobody_left():
            raise CapacityError(
                f"no client has the devices to go on: {self._names(sorted(self.gone))} are lost; see to their hosts, "
                "then resume the run"
            )
        placements = self._without_slowest(self.scheduler.placements(self.round, sorted(self.gone)))
        for placement in placements:
            if self.held.get(placement.client, _plan(placement)) != _plan(placement):
                self.events.append(f"client {self._client(placement.client)} moves to {self._devices(placement)}")
        return self._start(placements)

    def _without_slowest(self, placements: list[Placement]) -> list[Placement]:
        """The placements, without the client whose step takes longest if the method drops it."""
        if not self.method.drop_slowest or len(placements) < 2:
            return placements
        slowest = max(placements, key=lambda placement: placement.step_seconds)
        if self.dropped != slowest.client:
            seconds = f"{slowest.step_seconds:.3g} s"
            self.events.append(f"client {self._client(slowest.client)} is left out: the slowest, {seconds} a step")
        self.dropped = slowest.client
        return [placement for placement in placements if placement is not slowest]

    def _welcome(self, seconds: float) -> None:
        """Ask the devices that are gone whether they are back."""
        back = self.gone - self._silent(sorted(self.gone), seconds)
        self.gone -= back
        if back:
            self.events.append(f"{self._names(sorted(back))} {'is' if len(back) == 1 else 'are'} back")

    def _nobody_left(self) -> bool:
        return bool(self.gone) and len(self.scheduler.misfits(sorted(self.gone))) == len(self.method.clients)

    def mend(self, broken: Sequence[Chain], iteration: int) -> list[Chain]:
        """Chains that begin again on the devices that still answer.

        A client sits out if those have no room, or if all of its devices answer and it had no valid reply nonetheless.
        """
        lost = self._inquire(broken)
        hit = {chain.client: chain for chain in broken if any(device in lost for device, _ in chain.links)}
        placements = [p for p in self.scheduler.placements(self.round, sorted(self.gone)) if p.client in hit]
        outcomes = {p.client: f"begins again on {self._devices(p)}" for p in placements}
        for chain in broken:
            outcome = outcomes.get(chain.client, "sits out")
            self.events.append(f"{self._fault(chain, lost)} in batch {iteration + 1}: {outcome}")
        again = self._start(placements)
        for chain in again:
            chain.replies = hit[chain.client].replies
        return again

    def miss(self, broken: Sequence[Chain]) -> None:
        """These chains' portions did not all come back for the average."""
        lost = self._inquire(broken)
        for chain in broken:
            self.events.append(f"{self._fault(chain, lost)} after the last batch: what it learnt is lost")

    def _inquire(self, broken: Sequence[Chain]) -> set[int]:
        """The devices of these chains' clients that do not answer any more, and are gone from now on."""
        asked = [k for chain in broken for k in self._devices_of(chain.client) if k not in self.gone]
        lost = self._silent(asked, self.method.deadline_s or PING_S)
        self.gone |= lost
        return lost

    def _fault(self, chain: Chain, lost: Collection[int]) -> str:
        """What became of a client, whose devices in use come before its others."""
        client = f"client {self._client(chain.client)}"
        used = [device for device, _ in chain.links]
        others = [device for device in self._devices_of(chain.client) if device not in used]
        if names := self._names(device for device in (*used, *others) if device in lost):
            return f"{client} lost {names}"
        return f"{client} {chain.fault}"

    def _silent(self, devices: Sequence[int], seconds: float) -> set[int]:
        """Those of the devices that do not answer in time."""
        if not devices:
            return set()
        pings = [self.fleet.submit(device, "ping") for device in devices]
        answers = self.fleet.collect(pings, seconds)
        return {device for device, answer in zip(devices, answers, strict=True) if isinstance(answer, Missing)}

    def _start(self, placements: Sequence[Placement]) -> list[Chain]:
        """Have each device hold its portion; moments are handed over before anyone forgets them."""
        moved = iter([self._moments(placement, *stage) for placement in placements for stage in placement.stages])
        chains = []
        for placement in placements:
            (load,) = self.scheduler.loads([placement.client])
            last, links = len(placement.stages) - 1, []
            for index, (device, blocks) in enumerate(placement.stages):
                stage = Stage(placement.client, blocks, first=index == 0, last=index == last)
                self.fleet.submit(device, "hold", stage, *(self.weights[block] for block in blocks), *next(moved))
                links.append((device, stage))
            self.held[placement.client] = _plan(placement)
            chains.append(Chain(placement.client, load, links))
        return chains

    def _moments(self, placement: Placement, device: int, blocks: Sequence[int]) -> list[Future]:
        """The moments of a device's blocks from those who held them last, if they are there."""
        owners = {owner for owner, held in self.held.get(placement.client, ()) if set(held) & set(blocks)}
        there = sorted(owners - {device, *placement.absent, *self.gone})
        return [self.fleet.submit(owner, "moments", blocks) for owner in there]

    def _devices_of(self, client: int) -> range:
        start = sum(len(each.devices) for each in self.method.clients[:client])
        return range(start, start + len(self.method.clients[client].devices))

    def _client(self, number: int) -> str:
        return self.method.clients[number].name

    def _names(self, devices: Iterable[int]) -> str:
        names = self.method.device_names
        return ", ".join(names[device] for device in devices)

    def _devices(self, placement: Placement) -> str:
        return self._names(device for device, _ in placement.stages)


def _plan(placement: Placement) -> Plan:
    return [[device, list(blocks)] for device, blocks in placement.stages]
