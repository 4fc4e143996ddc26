"""Every method on a GPU that is not there (`tests.fake_cuda`): what is computed where, and what comes back to the host.

Proved: both halves of each method run rounds on `cuda`; no operation gets tensors of both processors; and the host
waits for the GPU at places that do not grow with the work: not in an iteration, but to send what a payload holds, to
put a device's state away (with FSL-GAN what goes from device to device too), and to read the losses of a call. Not
proved, since there are no values, no kernels and no driver: the numbers, the speed, that cuDNN has the kernels,
bfloat16 (torch turns autocast for CUDA off where there is no GPU), and who hosts what under Ray. A CUDA graph of the
step needs more, which `tests/models/test_cuda.py` looks at.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from rayfed import plugins
from rayfed.fleet.host import Host
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Future, Handle
from rayfed.ids import DeviceId
from tests.fake_cuda import FakeCuda
from tests.methods.federation import Federation

COUNTS = [[6, 4], [3, 7]]
BATCH = 4
DEVICES = [{"name": f"{size}", "capacity": size, "time_factor": 1.0} for size in (1_000, 4_000)]
NEEDS: dict[str, dict[str, Any]] = {
    "fsl-gan": {"clients": [{"name": name, "devices": DEVICES} for name in "ab"]},
    "iotsl": {"generator_rounds": 1, "pretraining_rounds": 1, "generator_batch": BATCH, "generator_width": 4},
}
"""What a method must be told beside what all have: clients that split their discriminator over two devices, and a round
for each of IoTSL's four steps."""
ROUNDS = {"iotsl": 4}
"""Of the methods that need more than two."""
STEPS = ("iterations", "d_steps", "g_steps", "generator_steps", "critic_steps")
"""Settings that say how many iterations there are."""
ITERATION = (
    "GAN.noise",
    "GAN.fakes",
    "GAN.scores",
    "GAN.step",
    "GAN.generator_step",
    "GAN.discriminator_step",
    "GAN.feedback",
    "GAN.follow",
    "Adam.step",
    "Stage.run",
    "ClassifierWorkspace.train",
    "ClassifierWorkspace.loss",
    "ConditionalGAN.step",
    "sanitise",
    "DeviceHalf._smash",
)
"""What an iteration of any method is made of."""


class Watched(LocalFleet):
    """Counts the copies to the host in each call of a device, and what the server shares."""

    def __init__(self, host: Host, cuda: FakeCuda) -> None:
        super().__init__(host)
        self.cuda = cuda
        self.shared = 0
        self.copies: list[tuple[str, int]] = []
        """Of each call, its method and its number of copies."""

    def share(self, payload: Any, since: str | None = None) -> Handle:
        self.shared += 1
        return super().share(payload, since)

    def submit(self, device: DeviceId, method: str, *args: Any, **more: Any) -> Future:
        before = self.waits()
        future = super().submit(device, method, *args, **more)
        self.copies.append((method, self.waits() - before))
        return future

    def waits(self) -> int:
        """The copies to the host so far."""
        return sum(transfer.to_host for transfer in self.cuda.transfers)


@dataclass
class Observed:
    """All rounds."""

    cuda: FakeCuda = field(default_factory=FakeCuda)
    calls: set[tuple[str, int]] = field(default_factory=set)
    """The method of a call of a device, and its copies to the host."""
    server: int = 0
    """The server's copies to the host beyond one for each payload that it shares."""

    @property
    def updates(self) -> int:
        """Steps of Adam."""
        return self.cuda.calls[torch.ops.aten._fused_adam_.default]


def observe(name: str, steps: int) -> Observed:
    """Rounds of a method with so many iterations, local steps and steps of the server."""
    given = {"batch": BATCH, "fraction": 1.0} | dict.fromkeys(STEPS, steps) | NEEDS.get(name, {})
    fields = plugins.method(name).settings.model_fields
    method = {"name": name} | {key: value for key, value in given.items() if key in fields}
    seen, rounds = Observed(), ROUNDS.get(name, 2)
    with seen.cuda:
        model = {"name": "cnn5" if plugins.method(name).task_name == "classification" else "dcgan28", "width": 4}
        federation = Federation(method, COUNTS, processor="cuda", model=model)
        fleet = Watched(federation.host, seen.cuda)
        federation.fleet = fleet
        state, reports = federation.rounds(rounds)
    assert state.round == rounds
    assert reports
    seen.calls = set(fleet.copies)
    seen.server = fleet.waits() - sum(copies for _, copies in fleet.copies) - fleet.shared
    return seen


@pytest.mark.parametrize("name", plugins.methods())
def test_no_iteration_waits_for_the_gpu(name: str) -> None:
    least = (
        2 if plugins.method(name).settings.model_fields.keys() & {"cut"} else 1
    )  # a round of one batch has no step between the first and the last
    few, many = observe(name, least), observe(name, least + 1)
    for seen in (few, many):
        inside = [transfer for transfer in seen.cuda.transfers if transfer.to_host and transfer.within(ITERATION)]
        assert inside == []
        assert any(transfer.within(ITERATION) for transfer in seen.cuda.transfers)  # the noise, or masks, go there
    assert many.updates > few.updates > 0
    assert many.calls == few.calls
    assert many.server == few.server
