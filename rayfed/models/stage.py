"""A network computed block by block, wherever its blocks are, to the same numbers as in one piece.

What is drawn (dropout's masks) is keyed by the layer and drawn for the whole batch, so that neither who holds a block
nor how the batch is cut into micro-batches changes a mask. BatchNorm's statistics are of the micro-batch at hand.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rayfed.config import Model
from rayfed.fleet.codec import Codec
from rayfed.models import flat
from rayfed.models.adam import MOMENTS, Adam
from rayfed.models.portions import blocks

Arrays = dict[str, np.ndarray]
Seed = Callable[[int], int]
"""The seed of a layer's draw, by the layer's index in the network."""


class Stage:
    """Some consecutive blocks of a workspace's network; `state` holds their weights and optimizer state."""

    def __init__(self, network: nn.Module, config: Model, numbers: Sequence[int], state: Arrays) -> None:
        """`network` is an nn.Sequential; `config` names the optimizer's settings; `numbers` are those of some of its
        blocks (`rayfed.models.portions.blocks`)."""
        every = blocks(network)
        self.config = config
        self.numbers = tuple(numbers)
        self.blocks = {number: every[number] for number in numbers}
        start = sum(len(block) for block in every[: self.numbers[0]])
        layers = [layer for block in self.blocks.values() for layer in block]
        self.layers = list(enumerate(layers, start))
        network.train()
        for number, block in self.blocks.items():
            flat.vector_to_module(state[f"block{number}"], block)

    def run(self, x: Tensor, rows: slice, batch: int, seed: Seed) -> Tensor:
        """The blocks on rows [b, ...] of a batch of `batch` samples."""
        for index, layer in self.layers:
            if isinstance(layer, nn.Dropout | nn.Dropout2d):
                x = x * _mask(layer, x, rows, batch, seed(index))
            else:
                x = layer(x)
        return x

    def freeze(self, frozen: bool) -> None:
        """Whether a backward pass leaves the parameters without a gradient."""
        for block in self.blocks.values():
            block.requires_grad_(not frozen)

    def gradients(self) -> Arrays:
        """The parameters' gradients by block, and no longer in the workspace."""
        found = {}
        for number, block in self.blocks.items():
            found[f"grad{number}"] = flat.flatten(p.grad for p in block.parameters() if p.grad is not None)
            block.zero_grad()
        return found

    def update(self, gradients: Arrays, state: Arrays) -> Arrays:
        """A step of Adam: the blocks' new weights and optimizer state, which begins at zero where `state` has none."""
        config, updated = self.config, {}
        for number, block in self.blocks.items():
            parameters = list(block.parameters())
            optimizer = Adam(parameters, config.lr, (config.beta1, config.beta2))
            optimizer.reset()
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
            flat.unflatten(gradients[f"grad{number}"], [_grad(parameter) for parameter in parameters])
            slots = list(optimizer.state.values())
            if f"block{number}.step" in state:
                for key in MOMENTS:
                    flat.unflatten(state[f"block{number}.{key}"], [slot[key] for slot in slots])
            optimizer.step()
            block.zero_grad()
            updated[f"block{number}"] = flat.module_to_vector(block)
            updated |= {f"block{number}.{key}": flat.flatten(slot[key] for slot in slots) for key in MOMENTS}
        return updated


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _mask(layer: nn.Dropout | nn.Dropout2d, x: Tensor, rows: slice, batch: int, seed: int) -> Tensor:
    """The rows' part of a dropout mask over the whole batch, scaled by 1 / (1 - p)."""
    features = (x.shape[1], 1, 1) if isinstance(layer, nn.Dropout2d) else x.shape[1:]
    kept = torch.rand(batch, *features, generator=torch.Generator().manual_seed(seed)) >= layer.p
    return (kept[rows].float() / (1 - layer.p)).to(x.device)


def activation_codec(wire: str, size: int, kind: str) -> Codec:
    """The wire's layout of `size` values that one stage hands to another; `kind` is `activations` or `gradients`."""
    return Codec(wire, {"values": (size,)}, kind)


def to_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """An activation [b, ...] float32 as a tensor of its own memory; images and feature maps channels_last."""
    x = torch.tensor(array, device=device)
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x


def to_array(x: Tensor) -> np.ndarray:
    """A tensor [b, ...] as a contiguous float32 array."""
    return x.detach().contiguous().cpu().numpy()
