"""The training step on a GPU that is not there, for every network: what a CUDA graph needs. And `tests.fake_cuda`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.gpu import Devices, StaticGAN
from rayfed.config import Model
from rayfed.models.gan import GAN
from rayfed.models.networks import ARCHITECTURES, architecture
from tests.fake_cuda import FakeCuda

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
BATCH = 4


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: int(x[0]),
        lambda x: x.cpu().numpy(),
        lambda x: x.to("cpu", torch.float64, non_blocking=True),
        lambda x: torch.ones(3).copy_(x),
        lambda x: torch.empty_like(x, device="cpu").copy_(x),
    ],
)
def test_a_copy_to_the_host_is_noticed(read: Callable[[Tensor], Any]) -> None:
    with FakeCuda() as cuda:
        read(torch.ones(3, device="cuda"))
    assert [transfer.to_host for transfer in cuda.transfers] == [True]


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x + torch.ones(3),
        lambda x: x.add_(torch.ones(3)),
        lambda x: torch.stack([x, torch.ones(3)]),
        lambda x: torch.nn.functional.mse_loss(x, torch.ones(3)),
        lambda x: x.numpy(),
        lambda x: x[x > 0],  # its shape is not known on the host
    ],
)
def test_tensors_of_both_processors_together_and_hidden_waits_raise(mixed: Callable[[Tensor], Any]) -> None:
    with FakeCuda(), pytest.raises(Exception, match=r"same device|numpy\(\) is not supported|aten.nonzero"):
        mixed(torch.ones(3, device="cuda"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_on_what_lies_on_the_gpu_does_without_the_host(name: str) -> None:
    """No copy in either direction: what a CUDA graph can hold, as far as it shows without a GPU."""
    with FakeCuda() as cuda:
        gan = StaticGAN(Model(name=name), BATCH, "cuda")
        before = len(cuda.transfers)
        losses = gan.iterate()
        assert cuda.calls[torch.ops.aten._fused_adam_.default] == 2
    assert losses.device.type == "cuda"
    assert cuda.transfers[before:] == []


def test_the_static_step_trains_the_same_bits_in_memory_that_stays() -> None:
    """A graph reads and writes where the weights, moments and inputs were when it was captured."""
    side = architecture("dcgan28").side
    batches = list(np.random.default_rng(0).integers(0, 256, (2, BATCH, 1, side, side), np.uint8))
    config = Model(name="dcgan28", width=4)
    eager, static = GAN(config, 1), StaticGAN(config, BATCH, "cpu")
    for gan in (eager, static):
        gan.load_optimizer_state(None)
    places = _places(static)
    ours, theirs = Devices(static, 2, batches), Devices(eager, 2, batches)
    for _ in range(2):
        np.testing.assert_array_equal(ours.round(), theirs.round())
    for mine, other in zip(ours.states, theirs.states, strict=True):
        for arrays, expected in zip(mine, other, strict=True):
            for key, values in expected.items():
                np.testing.assert_array_equal(arrays[key], values)
    assert _places(static) == places


def _places(gan: StaticGAN) -> list[int]:
    networks = [tensor for network in gan.networks.values() for tensor in network.state_dict().values()]
    moments = [
        each for optimizer in gan.optimizers.values() for slot in optimizer.state.values() for each in slot.values()
    ]
    return [tensor.data_ptr() for tensor in (*networks, *moments, gan.images, gan.z)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_in_one_line_that_there_is_no_gpu() -> None:
    done = subprocess.run([sys.executable, BENCHMARK], capture_output=True, text=True)
    message = "gpu.py: torch finds no GPU (torch.cuda.is_available() is False); --cpu rehearses without one\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.slow
def test_the_benchmark_is_rehearsed_on_a_cpu() -> None:
    done = subprocess.run([sys.executable, BENCHMARK, "--cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    about, _, *rows, last = done.stdout.splitlines()
    assert about == "CPU, a rehearsal: both sides are eager"
    cells = [row.split() for row in rows]
    assert [(network, int(devices)) for network, devices, *_ in cells] == [
        (network, devices) for network in ("lsgan", "dcgan28") for devices in (1, 2)
    ]
    assert [float(row[-1]) for row in cells] == [0.0] * 4  # the losses of both sides are the same
    assert all(float(rate) > 0 for row in cells for rate in row[2:5])
    assert last == f"ratio of the graph to eager, 2 devices: lsgan {cells[1][4]}, dcgan28 {cells[3][4]}"
