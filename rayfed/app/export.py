"""A run's trained network as a file that torch, or any ONNX runtime, reads without rayfed."""

import os
from pathlib import Path

import torch

from rayfed.app.result import Result, Round
from rayfed.errors import UserError

FORMATS = (".pt2", ".onnx")
"""What `export` writes, by the ending of the file's name."""


def export(result: Result, out: Path | None, round: Round = "last") -> Path:
    """Save a run's trained network after a round, for any batch size, as `.pt2` (torch.export) or `.onnx`.

    Without `out` it becomes a .pt2 file here, under the network's name.

    Raises UserError for another ending, a file that is there already or cannot be written, and for ONNX without its
    packages (`pip install 'rayfed-gan[onnx]'`).
    """
    if out is not None:
        _check(out)
    name, network, shape = result.export(round)
    if out is None:
        _check(out := Path(f"{name}.pt2"))
    program = exported(network, shape)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".pt2":
            with out.open("xb") as file:  # of a path that cannot be written torch would make a RuntimeError
                torch.export.save(program, file)
        else:
            torch.onnx.export(program, dynamo=True, f=str(out), verbose=False)
    except ImportError as error:
        raise UserError(f"--out {out}: ONNX needs {error.name}; pip install 'rayfed-gan[onnx]'") from None
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None
    return out


def _check(out: Path) -> None:
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: must end in {' or '.join(FORMATS)}")
    if os.path.exists(out):
        raise UserError(f"--out {out}: is there already; name another file or remove it")


def exported(network: torch.nn.Module, input_shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """A network in evaluation mode as a program of inputs [n, *input_shape] float32, for any n."""
    network = network.cpu().to(memory_format=torch.contiguous_format).eval()
    example = torch.zeros(2, *input_shape)  # a batch of 1 would be fixed for ever
    batch = torch.export.Dim("batch")
    return torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
