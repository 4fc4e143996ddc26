"""The steps of a classifier cut in two: what split learning, SplitFed and IoTSL have in common."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.protocol import Arrays, Fleet, Missing
from rayfed.ids import ClientId
from rayfed.methods.context import DeviceContext
from rayfed.methods.exchange import is_valid
from rayfed.methods.local_epochs import Batch, batch
from rayfed.methods.split_learning.messages import Smashed, Turn
from rayfed.models.gan import to_images
from rayfed.models.stage import activation_codec, to_array, to_tensor
from rayfed.scheduling.load import Load
from rayfed.tasks.classification import DEVICE_PART, SERVER_PART
from rayfed.tasks.classification.workspace import ClassifierWorkspace


class DeviceHalf:
    """f_a on a device: forward to the server, and back with the gradient that comes from there.

    The device owns f_a until it hands it on, and Adam's state for it.
    """

    def __init__(self, context: DeviceContext[ClassifierWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state
        self.method = context.config.method

    def begin(self, f_a: Packed, load: Load, turn: Turn) -> Smashed:
        """Take f_a over and smash the first batch."""
        self.take_over(f_a)
        return self.forward(load, turn)

    def step(self, gradient: Packed, load: Load, turn: Turn) -> Smashed:
        """Step f_a for the batch before, and smash this one."""
        self.backward(gradient, load, turn.round, turn.number - 1)
        return self.forward(load, turn)

    def take_over(self, f_a: Packed) -> None:
        """Begin a turn with somebody else's f_a."""
        kept = self.state
        if not self.method.keeps_optimizer_state:
            kept = {name: array for name, array in kept.items() if not name.startswith(f"{DEVICE_PART}.")}
        self.state = kept | self.codec.decode(f_a)

    @property
    def codec(self) -> Codec:
        """Of f_a."""
        workspace = self.context.workspace
        return Codec(workspace.wire, {DEVICE_PART: workspace.sizes[DEVICE_PART]}, "hand-over")

    def forward(self, load: Load, turn: Turn) -> Smashed:
        """Smashed data and labels of a batch."""
        workspace = self.context.workspace
        images, labels = self._batch(load, turn.round, turn.number)
        self._load()
        with workspace.meter.measure("f_a forward", len(images)):
            smashed = self._smash(images)
        workspace.pending = (self.context.device, turn.round, turn.number), smashed
        values, sizes = to_array(smashed).ravel(), {"values": (len(labels),)}
        return Smashed(
            self.context.shard.client,
            activation_codec(workspace.wire, values.size, "smashed data").encode({"values": values}),
            Codec("float32", sizes, "labels").encode({"values": labels.astype(np.float32)}),
        )

    def backward(self, gradient: Packed, load: Load, round: int, number: int) -> None:
        """A step of f_a with dL/d(smashed data) of a batch whose `forward` was called.

        Where that was elsewhere the batch goes forward again, to the same numbers; the published method does not.
        """
        workspace = self.context.workspace
        known, smashed = workspace.pending or (None, None)
        if smashed is None or known != (self.context.device, round, number):
            self._load()
            smashed = self._smash(self._batch(load, round, number)[0])
        codec = activation_codec(workspace.wire, smashed.numel(), "gradients")
        received = to_tensor(codec.values(gradient).reshape(smashed.shape), workspace.device)
        workspace.zero_grad()
        with workspace.meter.measure("f_a backward", len(smashed)):
            smashed.backward(received)
        workspace.optimizers[DEVICE_PART].step()
        workspace.pending = None
        self.state = self.state | workspace.models([DEVICE_PART]) | workspace.optimizer_state([DEVICE_PART])

    def hand_over(self) -> Packed:
        """f_a for whoever comes next."""
        return self.codec.encode({DEVICE_PART: self.state[DEVICE_PART]})

    def _batch(self, load: Load, round: int, number: int) -> Batch:
        return batch(self.context.shard, load, round, number, self.method.iterations)

    def _load(self) -> None:
        workspace = self.context.workspace
        workspace.pending = None
        workspace.load_models({DEVICE_PART: self.state[DEVICE_PART]})
        workspace.load_optimizer_state(self.state if f"{DEVICE_PART}.step" in self.state else None, [DEVICE_PART])

    def _smash(self, images: np.ndarray) -> Tensor:
        workspace = self.context.workspace
        with workspace.arithmetic():
            smashed: Tensor = workspace.networks[DEVICE_PART](to_images(images, workspace.device))
        return smashed.float()


class ServerHalf:
    """f_b in the server's workspace, for the length of a round."""

    def __init__(self, workspace: ClassifierWorkspace, models: Arrays, optimizer: Arrays, keeps: bool) -> None:
        """`models` has f_b, `optimizer` Adam's state for it, empty before the first round; whether it `keeps` that."""
        self.workspace = workspace
        self.losses: dict[ClientId, list[Tensor]] = {}
        """Of each client's batches."""
        workspace.pending = None
        workspace.load_models({SERVER_PART: models[SERVER_PART]})
        workspace.load_optimizer_state(optimizer if keeps and optimizer else None, [SERVER_PART])
        self.codec = Codec(workspace.wire, {DEVICE_PART: workspace.sizes[DEVICE_PART]}, "hand-over")
        """Of f_a."""

    def answer(self, fleet: Fleet, reply: Smashed | Missing) -> Packed | None:
        """A step of f_b on a device's smashed data, and the gradient for the device; None for what is not valid.

        The ledger notes what did not pass.
        """
        if isinstance(reply, Missing):
            return None
        values = self._values(reply)
        if values is None:
            fleet.reject(reply.client)
            return None
        labels, smashed = values
        meter = self.workspace.meter
        with fleet.work("f_b", meter.take):
            loss, gradient = meter.once(("f_b", len(labels)), partial(self._step, labels, smashed))
        self.losses.setdefault(reply.client, []).append(loss)
        return activation_codec(self.workspace.wire, gradient.size, "gradients").encode({"values": gradient})

    def _step(self, labels: np.ndarray, smashed: Tensor) -> tuple[Tensor, np.ndarray]:
        """Update f_b; the loss, and its gradient in the smashed data, flat."""
        workspace = self.workspace
        workspace.zero_grad()
        with workspace.meter.measure("f_b", len(labels)):
            with workspace.arithmetic():
                scores = workspace.networks[SERVER_PART](smashed)
            loss = workspace.loss(scores, labels)
            loss.backward()
        workspace.optimizers[SERVER_PART].step()
        assert smashed.grad is not None
        return loss.detach(), to_array(smashed.grad).ravel()

    def arrays(self) -> tuple[Arrays, Arrays]:
        """f_b, and Adam's state for it."""
        return self.workspace.models([SERVER_PART]), self.workspace.optimizer_state([SERVER_PART])

    def _values(self, reply: Smashed) -> tuple[np.ndarray, Tensor] | None:
        """Labels [b] and smashed data [b, ...] that wants a gradient, if that is what they are."""
        workspace = self.workspace
        count, shape = len(reply.labels.data), workspace.smashed_shape
        labels = Codec("float32", {"values": (count,)}, "labels")
        codec = activation_codec(workspace.wire, count * int(np.prod(shape)), "smashed data")
        if not (count and is_valid(reply.labels, labels) and is_valid(reply.values, codec)):
            return None
        given = labels.values(reply.labels)
        if (given != np.rint(given)).any() or given.min() < 0 or given.max() >= workspace.classes:
            return None
        smashed = to_tensor(codec.values(reply.values).reshape(count, *shape), workspace.device)
        return given.astype(np.int64), smashed.requires_grad_(True)


def means(losses: list[Tensor]) -> dict[str, float]:
    """The metrics of a client's losses."""
    return {"loss_train": float(torch.stack(losses).mean())}
