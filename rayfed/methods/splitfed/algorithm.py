"""SplitFed (Thapa, Mahawaga Arachchige, Camtepe, Sun: "SplitFed: When Federated Learning Meets Split Learning", AAAI
2022), the variant V2.

In a round all devices begin with the same f_a. Per batch they send their smashed data at once; the server steps its one
f_b on each in turn, in the order of the devices, and answers each with its gradient; each device steps its own f_a. At
the end of the round the devices send f_a, and the server takes the mean weighted by their samples.
"""

import numpy as np

from rayfed.aggregation import GroupWeights, by_samples
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet, Future
from rayfed.ids import ClientId, DeviceId
from rayfed.methods.exchange import Update, average
from rayfed.methods.split_learning import algorithm as split_learning
from rayfed.methods.split_learning.halves import DeviceHalf, ServerHalf
from rayfed.methods.split_learning.messages import Turn
from rayfed.scheduling.load import Load
from rayfed.tasks.classification import DEVICE_PART


class Device(DeviceHalf):
    """A client. It owns Adam's state for its f_a. Per batch it does `DeviceHalf.step`."""

    def send(self, gradient: Packed, load: Load, turn: Turn) -> Update:
        """Step f_a for the last batch, and send it to be averaged."""
        self.backward(gradient, load, turn.round, turn.number)
        return Update(self.context.shard.client, self.hand_over(), load, {})


class Server(split_learning.Server):
    """The main server, with f_b, and the fed server, which averages f_a."""

    def turns(self, fleet: Fleet, half: ServerHalf, loads: dict[ClientId, Load], round: int, models: Arrays) -> Arrays:
        """See `all_at_once`."""
        samples = self.scheduler.class_counts().sum(axis=1)
        return all_at_once(self, fleet, half, loads, round, models, samples)


def all_at_once(
    server: split_learning.Server,
    fleet: Fleet,
    half: ServerHalf,
    loads: dict[ClientId, Load],
    round: int,
    models: Arrays,
    samples: np.ndarray,
) -> Arrays:
    """A batch of every device that has one left, again and again; then the mean of their f_a.

    `samples` [K]: what each device trains on. `half` forgets the losses of those whose f_a is not in the mean.
    """
    handle = fleet.share(half.codec.encode({DEVICE_PART: models[DEVICE_PART]}))
    turns = {k: [Turn(round, n, load.size(n)) for n in range(load.iterations)] for k, load in loads.items()}
    futures = {k: fleet.submit(DeviceId(k), "begin", handle, loads[k], turns[k][0]) for k in loads}
    sent: dict[ClientId, Future] = {}
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
                sent[client] = fleet.submit(device, "send", shared, load, turns[client][-1], last=True)
    calls = [sent[client] for client in sorted(sent)]
    weights = GroupWeights(by_samples(samples), {client: loads[client] for client in sorted(sent)})
    f_a, reports = average(fleet, server.method, server.workspace.meter, half.codec, calls, weights)
    half.losses = {each.client: half.losses[each.client] for each in reports}
    return f_a
