"""A device's half of FSL-GAN: the portion of its client's discriminator that it holds.

A device keeps what went into its portion, not the graph, and computes the portion again when the gradient comes back.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from rayfed.algorithms.fsl_messages import Passed, Stage, Step, block_codec, micro_batches, micro_rows
from rayfed.algorithms.site import Site
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays
from rayfed.models.gan import to_images
from rayfed.models.split import MOMENTS, Portion, to_array, to_tensor
from rayfed.scheduling.load import Load
from rayfed.seeding import torch_seed

REAL, FAKE = 1.0, 0.0


class Device:
    """A device of a client. Between rounds it owns Adam's moments of its blocks; within one, its blocks too."""

    def __init__(self, number: int, site: Site, state: Arrays) -> None:
        self.number = number
        self.site = site
        self.state = state

    def moments(self, numbers: Sequence[int]) -> Arrays:
        """Adam's moments of those of the blocks that it has held, for the device that holds them now."""
        return {key: self.state[key] for key in _moment_keys(numbers) if key in self.state}

    def hold(self, stage: Stage, *given: Packed | Arrays) -> None:
        """Take the round's weights of the stage's blocks, block by block, then moments that other devices hand over.

        Moments of other blocks are forgotten.
        """
        weights, moved = given[: len(stage.blocks)], given[len(stage.blocks) :]
        self.state = self.moments(stage.blocks)
        for arrays in moved:
            assert not isinstance(arrays, Packed)
            self.state |= arrays
        for number, packed in zip(stage.blocks, weights, strict=True):
            assert isinstance(packed, Packed)
            self.state |= block_codec(self.site, [number]).decode(packed)

    def forward(self, stage: Stage, step: Step, load: Load, *inputs: Packed | Passed) -> Passed:
        """Compute the stage on what came in, and keep that for the way back."""
        arrays = self._inputs(stage, step, load, *inputs)
        kept = {f"in.{step.micro}.{i}": array for i, array in enumerate(arrays)}
        tensors = self._tensors(arrays)
        with torch.no_grad(), self._measured("forward", stage, step, tensors):
            outputs = self._run(stage, self._portion(stage), step, load, tensors)
        self.state = self.state | kept
        return Passed(self.number, tuple(map(to_array, outputs)))

    def turn(self, stage: Stage, step: Step, load: Load, *inputs: Packed | Passed) -> Passed:
        """The last device: the scores, the loss, and the first gradients of the way back."""
        portion, arrays = self._portion(stage), self._inputs(stage, step, load, *inputs)
        portion.freeze(step.for_generator)
        tensors = self._tensors(arrays, grad=step.for_generator or not stage.first)
        targets = [REAL] if step.for_generator else [REAL, FAKE]
        loss = torch.zeros((), device=self.site.gan.device)
        with self._measured("turn", stage, step, tensors):
            scores = self._run(stage, portion, step, load, tensors)
            for part, (score, target) in enumerate(zip(scores, targets, strict=True)):
                share = len(score) / self._batch(step, load, part) / len(targets)
                loss = loss + share * self.site.gan.loss(score, torch.full_like(score, target))
            loss.backward()
        return self._back(stage, step, portion, tensors, float(loss.detach()))

    def backward(self, stage: Stage, step: Step, load: Load, passed: Passed) -> Passed:
        """Compute the stage again, now with its graph, and take the gradients through it.

        Only the latter is measured: a real device keeps the graph of the way there.
        """
        portion = self._portion(stage)
        portion.freeze(step.for_generator)
        parts = range(len(passed.arrays))
        arrays = [self.state[f"in.{step.micro}.{i}"] for i in parts]
        tensors = self._tensors(arrays, grad=step.for_generator or not stage.first)
        outputs = self._run(stage, portion, step, load, tensors)
        with self._measured("backward", stage, step, tensors):
            torch.autograd.backward(outputs, self._tensors(passed.arrays))
        return self._back(stage, step, portion, tensors, passed.loss)

    def give(self, stage: Stage) -> Packed:
        """The stage's blocks for the average; what stays are the moments."""
        models = {f"block{number}": self.state[f"block{number}"] for number in stage.blocks}
        self.state = {key: value for key, value in self.state.items() if key.startswith("block") and "." in key}
        return block_codec(self.site, stage.blocks).encode(models)

    def ping(self) -> None:
        """Answers if the device is there."""

    def _portion(self, stage: Stage) -> Portion:
        return Portion(self.site.gan, stage.blocks, self.state)

    def _inputs(self, stage: Stage, step: Step, load: Load, *inputs: Packed | Passed) -> Sequence[np.ndarray]:
        """What the stage computes on; the first one has the real images, and keeps the fakes for the pass for G."""
        if not stage.first:
            (passed,) = inputs
            assert isinstance(passed, Passed)
            return passed.arrays
        key = f"fakes.{step.micro}"
        if step.for_generator:
            return [self.state[key]]
        (packed,) = inputs
        assert isinstance(packed, Packed)
        site = self.site
        fakes = to_array(site.unpack_images(packed))
        self.state = self.state | {key: fakes}
        (batch,) = site.indices(stage.client, load.batch, step.round, step.iteration, 1)
        real = to_images(site.images[batch[self._rows(step, load.batch)]], site.gan.device)
        return [to_array(real), fakes]

    def _run(self, stage: Stage, portion: Portion, step: Step, load: Load, tensors: Sequence[Tensor]) -> list[Tensor]:
        outputs = []
        for part, x in enumerate(tensors):
            batch = self._batch(step, load, part)
            outputs.append(portion.run(x, self._rows(step, batch), batch, self._seed(stage.client, step, part)))
        return outputs

    def _measured(
        self, method: str, stage: Stage, step: Step, tensors: Sequence[Tensor]
    ) -> AbstractContextManager[None]:
        """Count the operations of the block."""
        return self.site.gan.meter.measure(method, stage.kind, step.for_generator, tuple(map(len, tensors)))

    def _batch(self, step: Step, load: Load, part: int) -> int:
        """The whole batch that a part's rows are of: real images come first, if they come at all."""
        return self.site.config.method.batch if step.for_generator or part == 1 else load.batch

    def _rows(self, step: Step, batch: int) -> slice:
        return micro_rows(batch, micro_batches(self.site))[step.micro]

    def _seed(self, client: int, step: Step, part: int) -> Callable[[int], int]:
        """Masks are keyed by the client's iteration, never by the device."""
        purpose = f"dropout {step.iteration} {step.for_generator} {part}"
        return lambda layer: torch_seed(self.site.config.seed, step.round, client, f"{purpose} {layer}")

    def _tensors(self, arrays: Sequence[np.ndarray], grad: bool = False) -> list[Tensor]:
        return [to_tensor(array, self.site.gan.device).requires_grad_(grad) for array in arrays]

    def _back(self, stage: Stage, step: Step, portion: Portion, tensors: Sequence[Tensor], loss: float) -> Passed:
        """After a backward pass: train the blocks if the batch is through, and hand the gradients on."""
        if not step.for_generator:
            gradients = portion.gradients()
            self.state = self.state | {key: self.state.get(key, 0) + value for key, value in gradients.items()}
            if step.micro == micro_batches(self.site) - 1:
                self.state = self.state | portion.update({key: self.state[key] for key in gradients}, self.state)
                self.state = {key: value for key, value in self.state.items() if key not in gradients}
        portion.freeze(False)
        arrays = tuple(to_array(x.grad) for x in tensors if x.grad is not None)
        if not stage.first:
            return Passed(self.number, arrays, loss=loss)
        if not step.for_generator:
            self.state = self.state | {f"loss_d.{step.micro}": np.array(loss, np.float32)}
            return Passed(self.number)
        packed = self.site.pack_images(torch.from_numpy(arrays[0]))
        return Passed(self.number, loss=loss, gradient=packed, loss_d=float(self.state[f"loss_d.{step.micro}"]))


def _moment_keys(numbers: Sequence[int]) -> list[str]:
    return [f"block{number}.{key}" for number in numbers for key in MOMENTS]
