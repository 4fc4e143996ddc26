"""A device's half of FSL-GAN: the portion of its client's discriminator that it holds.

A device keeps what went into its portion, not the graph, and computes the portion again when the gradient comes back.
Its portion runs as a `rayfed.models.stage.Stage`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays
from rayfed.ids import ClientId
from rayfed.methods.context import DeviceContext
from rayfed.methods.fsl_gan.messages import Passed, Place, Step, block_codec, micro_rows, pack, unpack
from rayfed.methods.fsl_gan.settings import Settings
from rayfed.models.adam import MOMENTS
from rayfed.models.gan import to_images
from rayfed.models.stage import Stage, to_array, to_tensor
from rayfed.scheduling.load import Load
from rayfed.seeding import torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace

REAL, FAKE = 1.0, 0.0


class Device:
    """A device of a client. Between rounds it owns the optimizer state of its blocks; within one, its blocks too."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.workspace = context.workspace
        self.state = state
        assert isinstance(context.config.method, Settings)
        self.method = context.config.method

    def optimizer_state(self, numbers: Sequence[int]) -> Arrays:
        """The optimizer state of those of the blocks that it has held, for the device that holds them now."""
        return {key: self.state[key] for key in _optimizer_keys(numbers) if key in self.state}

    def hold(self, place: Place, *given: Packed | Arrays) -> None:
        """Take the round's weights of its blocks, block by block, then optimizer state that other devices hand over.

        That of other blocks is forgotten.
        """
        weights, moved = given[: len(place.blocks)], given[len(place.blocks) :]
        self.state = self.optimizer_state(place.blocks)
        for arrays in moved:
            assert not isinstance(arrays, Packed)
            self.state |= arrays
        for number, packed in zip(place.blocks, weights, strict=True):
            assert isinstance(packed, Packed)
            self.state |= block_codec(self.workspace, [number]).decode(packed)

    def forward(self, place: Place, step: Step, load: Load, *inputs: Packed | Passed) -> Passed:
        """Compute the portion on what came in, and keep that for the way back."""
        arrays = self._inputs(place, step, load, *inputs)
        kept = {f"in.{step.micro}.{i}": array for i, array in enumerate(arrays)}
        tensors = self._tensors(arrays)
        with torch.no_grad(), self._measured("forward", place, step, tensors):
            outputs = self._run(place, self._stage(place), step, load, tensors)
        self.state = self.state | kept
        return Passed(self.context.device, *pack([to_array(x) for x in outputs], "activations"))

    def turn(self, place: Place, step: Step, load: Load, *inputs: Packed | Passed) -> Passed:
        """The last device: the scores, the loss, and the first gradients of the way back."""
        stage, arrays = self._stage(place), self._inputs(place, step, load, *inputs)
        stage.freeze(step.for_generator)
        tensors = self._tensors(arrays, grad=step.for_generator or not place.first)
        targets = [REAL] if step.for_generator else [REAL, FAKE]
        loss = torch.zeros((), device=self.workspace.gan.device)
        with self._measured("turn", place, step, tensors):
            scores = self._run(place, stage, step, load, tensors)
            for part, (score, target) in enumerate(zip(scores, targets, strict=True)):
                share = len(score) / self._batch(step, load, part) / len(targets)
                loss = loss + share * self.workspace.gan.loss(score, torch.full_like(score, target))
            loss.backward()
        return self._back(place, step, stage, tensors, float(loss.detach()))

    def backward(self, place: Place, step: Step, load: Load, passed: Passed) -> Passed:
        """Compute the portion again, now with its graph, and take the gradients through it.

        Only the latter is measured: a real device keeps the graph of the way there.
        """
        stage = self._stage(place)
        stage.freeze(step.for_generator)
        gradients = unpack(passed)
        parts = range(len(gradients))
        arrays = [self.state[f"in.{step.micro}.{i}"] for i in parts]
        tensors = self._tensors(arrays, grad=step.for_generator or not place.first)
        outputs = self._run(place, stage, step, load, tensors)
        with self._measured("backward", place, step, tensors):
            torch.autograd.backward(outputs, self._tensors(gradients))
        return self._back(place, step, stage, tensors, passed.loss)

    def give(self, place: Place) -> Packed:
        """Its blocks for the average; what stays is their optimizer state."""
        models = {f"block{number}": self.state[f"block{number}"] for number in place.blocks}
        self.state = {key: value for key, value in self.state.items() if key.startswith("block") and "." in key}
        return block_codec(self.workspace, place.blocks).encode(models)

    def ping(self) -> None:
        """Answers if the device is there."""

    def _stage(self, place: Place) -> Stage:
        return Stage(self.workspace.gan.discriminator, self.workspace.gan.config, place.blocks, self.state)

    def _inputs(self, place: Place, step: Step, load: Load, *inputs: Packed | Passed) -> Sequence[np.ndarray]:
        """What the portion computes on; the first one has the real images, and keeps the fakes for the pass for G."""
        if not place.first:
            (passed,) = inputs
            assert isinstance(passed, Passed)
            return unpack(passed)
        key = f"fakes.{step.micro}"
        if step.for_generator:
            return [self.state[key]]
        (packed,) = inputs
        assert isinstance(packed, Packed)
        shard = self.context.shard
        fakes = to_array(self.workspace.unpack_images(packed))
        self.state = self.state | {key: fakes}
        (batch,) = shard.indices(load.batch, step.round, step.iteration, 1)
        real = to_images(shard.images[batch[self._rows(step, load.batch)]], self.workspace.gan.device)
        return [to_array(real), fakes]

    def _run(self, place: Place, stage: Stage, step: Step, load: Load, tensors: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        for part, x in enumerate(tensors):
            batch = self._batch(step, load, part)
            outputs.append(stage.run(x, self._rows(step, batch), batch, self._seed(place.client, step, part)))
        return outputs

    def _measured(
        self, method: str, place: Place, step: Step, tensors: Sequence[Tensor]
    ) -> AbstractContextManager[None]:
        """Count the operations of what is computed in this context."""
        return self.workspace.gan.meter.measure(method, place.kind, step.for_generator, tuple(map(len, tensors)))

    def _batch(self, step: Step, load: Load, part: int) -> int:
        """The whole batch that a part's rows are of: real images come first, if they come at all."""
        return self.method.batch if step.for_generator or part == 1 else load.batch

    def _rows(self, step: Step, batch: int) -> slice:
        return micro_rows(batch, self.method.micro_batches)[step.micro]

    def _seed(self, client: ClientId, step: Step, part: int) -> Callable[[int], int]:
        """Masks are keyed by the client's iteration, never by the device."""
        purpose = f"dropout {step.iteration} {step.for_generator} {part}"
        return lambda layer: torch_seed(self.context.seed, step.round, client, f"{purpose} {layer}")

    def _tensors(self, arrays: Sequence[np.ndarray], grad: bool = False) -> list[Tensor]:
        return [to_tensor(array, self.workspace.gan.device).requires_grad_(grad) for array in arrays]

    def _back(self, place: Place, step: Step, stage: Stage, tensors: Sequence[Tensor], loss: float) -> Passed:
        """After a backward pass: train the blocks if the batch is through, and hand the gradients on."""
        if not step.for_generator:
            gradients = stage.gradients()
            self.state = self.state | {key: self.state.get(key, 0) + value for key, value in gradients.items()}
            if step.micro == self.method.micro_batches - 1:
                self.state = self.state | stage.update({key: self.state[key] for key in gradients}, self.state)
                self.state = {key: value for key, value in self.state.items() if key not in gradients}
        stage.freeze(False)
        arrays = tuple(to_array(x.grad) for x in tensors if x.grad is not None)
        if not place.first:
            return Passed(self.context.device, *pack(arrays, "gradients"), loss=loss)
        if not step.for_generator:
            self.state = self.state | {f"loss_d.{step.micro}": np.array(loss, np.float32)}
            return Passed(self.context.device)
        packed = self.workspace.pack_images(torch.from_numpy(arrays[0]), "feedback")
        loss_d = float(self.state[f"loss_d.{step.micro}"])
        return Passed(self.context.device, loss=loss, gradient=packed, loss_d=loss_d)


def _optimizer_keys(numbers: Sequence[int]) -> list[str]:
    return [f"block{number}.{key}" for number in numbers for key in MOMENTS]
