"""Split learning of a classifier f = f_b(f_a(x)), as IoTSL's section III and formula (1) have it.

In a round each device has its turn. It gets f_a from the device before it; per batch it sends f_a's output, the smashed
data, and the labels; the server computes the loss, steps f_b and sends the gradient of the smashed data back; the
device steps f_a. Then f_a goes to the next device. A round moves K [N (2 F + 1) + w] values: N images of F smashed
values on each of K devices, and w values of f_a.
"""

from dataclasses import replace
from typing import Any

from rayfed.fleet.codec import RECORD, Packed
from rayfed.fleet.protocol import Arrays, Fleet, Future, Handle
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Report, choose_group, is_valid
from rayfed.methods.split_learning.halves import DeviceHalf, ServerHalf, means
from rayfed.methods.split_learning.messages import Turn
from rayfed.methods.state import State
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import SamplerState, Scheduler
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.classification import DEVICE_PART
from rayfed.tasks.classification.workspace import ClassifierWorkspace


class Device(DeviceHalf):
    """A device: f_a while it is its turn, and Adam's state for it. Per batch it does `DeviceHalf.step`."""

    def hand_on(self, gradient: Packed, load: Load, turn: Turn) -> Packed:
        """Step f_a for the last batch, and hand it on; or only for the record, where nobody comes after it."""
        self.backward(gradient, load, turn.round, turn.number)
        f_a = self.hand_over()
        return replace(f_a, kind=RECORD) if turn.record else f_a


class Server:
    """The server: f_b, and whose turn it is."""

    def __init__(self, context: ServerContext[ClassifierWorkspace, Scheduler]) -> None:
        self.context = context
        self.workspace = context.workspace
        self.scheduler = context.scheduler
        self.method = context.config.method

    def init(self) -> State:
        """Fresh halves."""
        self.workspace.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, self.workspace.models(), sampler=self.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """Every device's turn, in the order of the devices."""
        round = state.round + 1
        loads, sampler = self.group(round, state.sampler)
        half = ServerHalf(self.workspace, state.models, state.optimizer, self.method.keeps_optimizer_state)
        f_a = self.turns(fleet, half, loads, round, state.models)
        models, optimizer = half.arrays()
        reports = [Report(client, loads[client].images, means(losses)) for client, losses in half.losses.items()]
        models = state.models | f_a | models
        return replace(state, round=round, models=models, optimizer=optimizer, sampler=sampler), reports

    def group(self, round: int, sampler: SamplerState) -> tuple[dict[ClientId, Load], SamplerState]:
        """Who has a turn, with what load, and the sampler's next state."""
        return choose_group(self.scheduler, round, sampler)

    def turns(self, fleet: Fleet, half: ServerHalf, loads: dict[ClientId, Load], round: int, models: Arrays) -> Arrays:
        """Hand f_a from device to device; f_a as the last of them leaves it."""
        latest, peers = {DEVICE_PART: models[DEVICE_PART]}, self.method.sends_to_peers
        f_a: Handle | Future = fleet.share(half.codec.encode(latest))
        for client, load in loads.items():
            record = peers and client == list(loads)[-1]
            handed: Handle | Future | None = self.turn(fleet, half, DeviceId(client), f_a, load, round, record)
            if handed is None:
                continue
            if not peers and isinstance(handed, Future):
                latest = self.received(fleet, half, handed) or latest
                handed = fleet.share(half.codec.encode(latest))
            f_a = handed
        return self.received(fleet, half, f_a) or latest if isinstance(f_a, Future) else latest

    def received(self, fleet: Fleet, half: ServerHalf, handed: Future) -> Arrays:
        """f_a of a device's last call; empty when it is not valid."""
        [f_a] = fleet.collect([handed])
        if isinstance(f_a, Packed) and is_valid(f_a, half.codec):
            return half.codec.decode(f_a)
        fleet.reject(ClientId(handed.device))
        return {}

    def turn(
        self, fleet: Fleet, half: ServerHalf, device: DeviceId, f_a: Any, load: Load, round: int, record: bool
    ) -> Future | None:
        """A device's batches; the call that hands f_a on, or None where the device sent what is not valid."""
        turns = [Turn(round, number, load.size(number), record) for number in range(load.iterations)]
        future = fleet.submit(device, "begin", f_a, load, turns[0])
        for turn in turns:
            [reply] = fleet.collect([future])
            gradient = half.answer(fleet, reply)
            if gradient is None:
                return None
            shared = fleet.share(gradient)
            if turn != turns[-1]:
                future = fleet.submit(device, "step", shared, load, turns[turn.number + 1])
        return fleet.submit(device, "hand_on", shared, load, turn, last=True)
