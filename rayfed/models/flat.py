"""A module's state as one float32 vector: parameters and buffers (BatchNorm statistics too), in state_dict order.

Integer buffers (BatchNorm's counter) travel as float32, exact up to 2**24, and are rounded when loaded.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn


def sizes(module: nn.Module) -> tuple[int, ...]:
    """How many values each tensor of the module's state has; their sum is the vector's length."""
    return tuple(tensor.numel() for tensor in module.state_dict().values())


def flatten(tensors: Iterable[Tensor]) -> np.ndarray:
    """Concatenate tensors, each in row-major order, into a float32 vector [n] of its own memory."""
    return torch.cat([tensor.detach().flatten().to(torch.float32) for tensor in tensors]).cpu().numpy()


@torch.no_grad()
def unflatten(vector: np.ndarray, tensors: Iterable[Tensor]) -> None:
    """Copy a vector [n] into tensors of n values in all; raises ValueError if the lengths differ."""
    tensors = list(tensors)
    source = vector if vector.flags.writeable else vector.copy()  # torch warns of arrays that cannot be written
    chunks = torch.from_numpy(source).split([tensor.numel() for tensor in tensors])
    for tensor, chunk in zip(tensors, chunks, strict=True):
        tensor.copy_(chunk.view(tensor.shape) if tensor.is_floating_point() else chunk.view(tensor.shape).round())


def module_to_vector(module: nn.Module) -> np.ndarray:
    """The module's state as a float32 vector [n]."""
    return flatten(module.state_dict().values())


def vector_to_module(vector: np.ndarray, module: nn.Module) -> None:
    """Load a vector [n] into the module."""
    unflatten(vector, module.state_dict().values())
