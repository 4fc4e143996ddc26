"""SplitFed (Thapa, Mahawaga Arachchige, Camtepe, Sun: "SplitFed: When Federated Learning Meets Split Learning", AAAI
2022), the variant V2.

In a round all devices begin with the same f_a. Per batch they send their smashed data at once; the server steps its one
f_b on each in turn, in the order of the devices, and answers each with its gradient; each device steps its own f_a. At
the end of the round the devices send f_a, and the server takes the mean weighted by their samples.
"""

from dataclasses import replace

from rayfed.aggregation import GroupWeights, by_samples
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Fleet, Future
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Report, Update, average, choose_group
from rayfed.methods.split_learning.halves import DeviceHalf, ServerHalf, Turn, means
from rayfed.methods.state import State
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.classification import DEVICE_PART
from rayfed.tasks.classification.workspace import ClassifierWorkspace


class Device(DeviceHalf):
    """A client. It owns Adam's state for its f_a. Per batch it does `DeviceHalf.step`."""

    def end(self, gradient: Packed, load: Load, turn: Turn) -> Update:
        """Step f_a for the last batch, and send it to be averaged."""
        self.backward(gradient, load, turn.round, turn.number)
        return Update(self.context.shard.client, self.hand_over(), load, {})


class Server:
    """The main server, with f_b, and the fed server, which averages f_a."""

    def __init__(self, context: ServerContext[ClassifierWorkspace, Scheduler]) -> None:
        self.context = context
        self.workspace = context.workspace
        self.scheduler = context.scheduler
        self.method = context.config.method
        self.weigh = by_samples(self.scheduler.class_counts().sum(axis=1))

    def init(self) -> State:
        """Fresh halves."""
        self.workspace.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, self.workspace.models(), sampler=self.scheduler.start())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """A batch of every device that has one left, again and again; then the mean of their f_a."""
        round = state.round + 1
        loads, sampler = choose_group(self.scheduler, round, state.sampler)
        half = ServerHalf(self.workspace, state.models, state.optimizer, self.method.keeps_optimizer_state)
        handle = fleet.share(half.codec.encode({DEVICE_PART: state.models[DEVICE_PART]}))
        turns = {k: [Turn(round, n, load.size(n)) for n in range(load.iterations)] for k, load in loads.items()}
        futures = {k: fleet.submit(DeviceId(k), "begin", handle, loads[k], turns[k][0]) for k in loads}
        ended: dict[ClientId, Future] = {}
        number = 0
        while futures:
            replies = fleet.collect(list(futures.values()))
            answers = {client: half.answer(fleet, reply) for client, reply in zip(futures, replies, strict=True)}
            futures, number = {}, number + 1
            for client, gradient in answers.items():
                if gradient is None:
                    continue
                device, load, shared = DeviceId(client), loads[client], fleet.share(gradient)
                if number < load.iterations:
                    futures[client] = fleet.submit(device, "step", shared, load, turns[client][number])
                else:
                    ended[client] = fleet.submit(device, "end", shared, load, turns[client][-1], last=True)
        calls = [ended[client] for client in sorted(ended)]
        weights = GroupWeights(self.weigh, {client: loads[client] for client in sorted(ended)})
        f_a, reports = average(fleet, self.method, self.workspace.meter, half.codec, calls, weights)
        models, optimizer = half.arrays()
        reports = [Report(each.client, each.examples, means(half.losses[each.client])) for each in reports]
        models = state.models | f_a | models
        return replace(state, round=round, models=models, optimizer=optimizer, sampler=sampler), reports
