"""A GPU where there is none: tensors on `cuda` that have shapes and no values, and a record of what leaves them.

Tensors on the CPU are real. Whatever computes on both at once raises, as on a GPU. To the host come zeros.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
CUDA, META = torch.device("cuda", 0), torch.device("meta")


@dataclass(frozen=True)
class Transfer:
    """A copy between the host and the GPU."""

    to_host: bool
    """Else to the GPU. The host waits for the GPU before it has a value from there."""
    by: tuple[str, ...]
    """The functions of rayfed on the stack, the innermost first."""

    def within(self, functions: Sequence[str]) -> bool:
        """Whether one of the functions was running."""
        return not set(self.by).isdisjoint(functions)


class FakeCuda(FakeTensorMode):
    """FakeTensorMode in which `cuda` alone is fake; `transfers` lists the copies, `calls` counts each operation there.

    The autograd engine would ask the missing driver for the streams of a GPU. It gets to know from C++ where a tensor
    is, so C++ is told `meta`; torch's check that operands are on one device is Python, and sees `cuda`.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.transfers: list[Transfer] = []
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            return META
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == META and not any("portions.py" in file for file, _ in _stack()):
            kwargs["device"] = CUDA  # C++ asks for a tensor beside one of those; FSL-GAN's plan means meta itself
        fakes = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FakeTensor)]
        from_gpu = any(fake.device.type == "cuda" for fake in fakes)
        to_gpu = torch.device(kwargs.get("device") or "cpu").type == "cuda"
        if not (fakes or to_gpu):
            return func(*args, **kwargs)
        self.calls[func] += 1
        if func is aten._local_scalar_dense.default:
            self._note(to_host=True)
            return torch.zeros((), dtype=args[0].dtype).item()
        if func is aten.copy_.default and from_gpu:
            return self._copy(types, *args)
        if func is aten._to_copy.default and from_gpu != to_gpu and "device" in kwargs:
            self._note(to_host=from_gpu)
            if from_gpu:
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        found = super().__torch_dispatch__(func, types, args, kwargs)
        if from_gpu and isinstance(found, FakeTensor) and found.device.type == "cpu":
            return torch.zeros(found.shape, dtype=found.dtype)  # empty_like(x, device="cpu") and its kin
        return found

    def _copy(self, types: Any, target: Tensor, source: Tensor, *more: Any) -> Tensor:
        """`copy_` between the two, of which FakeTensorMode knows nothing; a target on the host stays as it is."""
        if not isinstance(target, FakeTensor):
            self._note(to_host=True)
            return target
        if not isinstance(source, FakeTensor):
            self._note(to_host=False)
            to_gpu = {"device": target.device}
            source = super().__torch_dispatch__(aten._to_copy.default, types, (source,), to_gpu)
        super().__torch_dispatch__(aten.copy_.default, types, (target, source, *more))
        return target

    def _note(self, to_host: bool) -> None:
        self.transfers.append(Transfer(to_host, tuple(function for _, function in _stack())))


def _stack() -> list[tuple[str, str]]:
    """The functions of rayfed that are running, the innermost first, and their files."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        if "/rayfed/" in frame.f_code.co_filename:
            found.append((frame.f_code.co_filename, frame.f_code.co_qualname))
        frame = frame.f_back
    return found
