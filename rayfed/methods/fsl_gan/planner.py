"""FSL-GAN's chains: each client's devices in the order of their portions, begun each round and mended when one is lost.

A block that moves to another device takes its optimizer state along, if its old device is there. So a plan that changes
between rounds changes no weight. A device that is lost in the middle of a round takes what its client learnt in it
along: the client begins again with the last commit's weights, on a new plan, or sits out until the device is back.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from rayfed.errors import CapacityError
from rayfed.events import Event
from rayfed.fleet.protocol import Fleet, Future, Handle, Missing
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.fsl_gan.events import ClientFailed, ClientLeftOut, ClientMoved, DevicesBack
from rayfed.methods.fsl_gan.messages import Passed, Place
from rayfed.methods.fsl_gan.scheduler import ClientScheduler, Placement
from rayfed.methods.fsl_gan.settings import FslState, Plan, Settings
from rayfed.scheduling.load import Load

PING_S = 30.0
"""How long a device may take to say that it is there, where the method has no deadline."""
BACK_S = 1.0
"""How long a round's start waits for the answers of devices that were gone."""


@dataclass(eq=False)
class Chain:
    """A client's devices in this round: (device, place) in the order of the portions."""

    client: ClientId
    load: Load
    links: list[tuple[DeviceId, Place]]
    replies: list[list[Passed]] = field(default_factory=list)
    """Per iteration, the first device's replies to the passes for G, one per micro-batch."""
    fault: str = ""
    """What was wrong with the replies of a chain whose devices all answer."""


class Planner:
    """One round's chains. From round to round it remembers each client's plan, and the devices that are gone."""

    def __init__(
        self, method: Settings, scheduler: ClientScheduler, fleet: Fleet, state: FslState, weights: Sequence[Handle]
    ) -> None:
        """`state`: that of the last commit; `weights`: its discriminator's, a handle per block."""
        self.method, self.scheduler, self.fleet = method, scheduler, fleet
        self.round, self.weights = state.round + 1, weights
        self.held: dict[ClientId, Plan] = {ClientId(int(client)): plan for client, plan in state.held.items()}
        self.gone = {DeviceId(device) for device in state.gone}
        self.dropped = state.dropped
        self.events: list[Event] = []

    def after(self, state: FslState) -> FslState:
        """The state with what the next round must know."""
        held = {str(client): plan for client, plan in self.held.items()}
        return replace(state, held=held, gone=sorted(self.gone), dropped=self.dropped, events=tuple(self.events))

    def begin(self) -> list[Chain]:
        """The round's chains, each device holding its portion.

        Raises CapacityError when so many devices are gone that no client can ever take part.
        """
        self._welcome(BACK_S)
        if self._nobody_left():
            self._welcome(PING_S)
        if self._nobody_left():
            lost = ", ".join(self._names(sorted(self.gone)))
            raise CapacityError(
                f"no client has the devices to go on: {lost} are lost; see to their hosts, then resume the run"
            )
        placements = self._without_slowest(self.scheduler.placements(self.round, sorted(self.gone)))
        for placement in placements:
            if self.held.get(placement.client, _plan(placement)) != _plan(placement):
                self.events.append(ClientMoved(self._client(placement.client), self._devices(placement)))
        return self._start(placements)

    def _without_slowest(self, placements: list[Placement]) -> list[Placement]:
        """The placements, without the client whose step takes longest if the method drops it."""
        if not self.method.drop_slowest or len(placements) < 2:
            return placements
        slowest = max(placements, key=lambda placement: placement.step_seconds)
        if self.dropped != slowest.client:
            self.events.append(ClientLeftOut(self._client(slowest.client), slowest.step_seconds))
        self.dropped = slowest.client
        return [placement for placement in placements if placement is not slowest]

    def _welcome(self, seconds: float) -> None:
        """Ask the devices that are gone whether they are back."""
        back = self.gone - self._silent(sorted(self.gone), seconds)
        self.gone -= back
        if back:
            self.events.append(DevicesBack(self._names(sorted(back))))

    def _nobody_left(self) -> bool:
        return bool(self.gone) and len(self.scheduler.misfits(sorted(self.gone))) == len(self.method.clients)

    def mend(self, broken: Sequence[Chain], iteration: int) -> list[Chain]:
        """Chains that begin again on the devices that still answer.

        A client sits out if those have no room, or if all of its devices answer and it had no valid reply nonetheless.
        """
        lost = self._inquire(broken)
        hit = {chain.client: chain for chain in broken if any(device in lost for device, _ in chain.links)}
        placements = [p for p in self.scheduler.placements(self.round, sorted(self.gone)) if p.client in hit]
        anew = {p.client: self._devices(p) for p in placements}
        for chain in broken:
            self.events.append(self._failure(chain, lost, iteration + 1, anew.get(chain.client, ())))
        again = self._start(placements)
        for chain in again:
            chain.replies = hit[chain.client].replies
        return again

    def miss(self, broken: Sequence[Chain]) -> None:
        """These chains' portions did not all come back for the average."""
        lost = self._inquire(broken)
        for chain in broken:
            self.events.append(self._failure(chain, lost, None, ()))

    def _inquire(self, broken: Sequence[Chain]) -> set[DeviceId]:
        """The devices of these chains' clients that do not answer any more, and are gone from now on."""
        asked = [k for chain in broken for k in self._devices_of(chain.client) if k not in self.gone]
        lost = self._silent(asked, self.method.deadline_s or PING_S)
        self.gone |= lost
        return lost

    def _failure(
        self, chain: Chain, lost: Collection[DeviceId], batch: int | None, devices: tuple[str, ...]
    ) -> ClientFailed:
        """What became of a client, whose devices in use come before its others."""
        used = [device for device, _ in chain.links]
        others = [device for device in self._devices_of(chain.client) if device not in used]
        names = self._names(device for device in (*used, *others) if device in lost)
        return ClientFailed(self._client(chain.client), names, chain.fault, batch, devices)

    def _silent(self, devices: Sequence[DeviceId], seconds: float) -> set[DeviceId]:
        """Those of the devices that do not answer in time."""
        if not devices:
            return set()
        pings = [self.fleet.submit(device, "ping") for device in devices]
        answers = self.fleet.collect(pings, seconds)
        return {device for device, answer in zip(devices, answers, strict=True) if isinstance(answer, Missing)}

    def _start(self, placements: Sequence[Placement]) -> list[Chain]:
        """Have each device hold its portion; optimizer state is handed over before anyone forgets it."""
        moved = iter(
            [self._optimizer_state(placement, *stage) for placement in placements for stage in placement.stages]
        )
        chains = []
        for placement in placements:
            (load,) = self.scheduler.loads([placement.client])
            last, links = len(placement.stages) - 1, []
            for index, (device, blocks) in enumerate(placement.stages):
                place = Place(placement.client, blocks, first=index == 0, last=index == last)
                self.fleet.submit(device, "hold", place, *(self.weights[block] for block in blocks), *next(moved))
                links.append((device, place))
            self.held[placement.client] = _plan(placement)
            chains.append(Chain(placement.client, load, links))
        return chains

    def _optimizer_state(self, placement: Placement, device: DeviceId, blocks: Sequence[int]) -> list[Future]:
        """The optimizer state of a device's blocks from those who held them last, if they are there."""
        owners = {owner for owner, held in self.held.get(placement.client, ()) if set(held) & set(blocks)}
        there = sorted(owners - {device, *placement.absent, *self.gone})
        return [self.fleet.submit(DeviceId(owner), "optimizer_state", blocks) for owner in there]

    def _devices_of(self, client: ClientId) -> list[DeviceId]:
        start = sum(len(each.devices) for each in self.method.clients[:client])
        return [DeviceId(start + k) for k in range(len(self.method.clients[client].devices))]

    def _client(self, number: ClientId) -> str:
        return self.method.clients[number].name

    def _names(self, devices: Iterable[DeviceId]) -> tuple[str, ...]:
        names = self.method.device_names
        return tuple(names[device] for device in devices)

    def _devices(self, placement: Placement) -> tuple[str, ...]:
        return self._names(device for device, _ in placement.stages)


def _plan(placement: Placement) -> Plan:
    return [[device, list(blocks)] for device, blocks in placement.stages]
