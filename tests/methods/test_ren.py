"""Ren, Liu, Yu and Guo's Algorithms 1 to 3 and their two schedules, against plain PyTorch written out here."""

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rayfed.aggregation import by_batch
from rayfed.fleet.codec import Packed
from rayfed.fleet.ledger import Call, Collect, Event, Mark, Share, Work
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Missing, QuorumError
from rayfed.methods.exchange import Update
from rayfed.methods.ren.algorithm import PHI, THETA, Device
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER
from tests.methods.federation import (
    Federation,
    adam,
    assert_near,
    discriminator_step,
    networks,
    noise,
    real_loss,
    seed,
    vector,
)

B = 6
COUNTS = [[8, 4], [0, 3], [9, 9], [2, 3]]
"""12, 3, 18 and 5 samples: with batches of 6 the devices' m_k are 6, 3, 6 and 5."""
SIZES = [6, 3, 6, 5]


def ren(schedule: str, **method: Any) -> dict[str, Any]:
    return {"name": "ren", "batch": B, "iterations": 3, "g_steps": 2, "schedule": schedule} | method


def generator_steps(
    generator: nn.Module, discriminator: nn.Module, optimizer: torch.optim.Optimizer, round: int, steps: int
) -> list[float]:
    """Algorithm 3: steps of G against one phi."""
    draws = []
    for step in range(steps):
        seed(round, SERVER, f"noise {step}")
        draws.append(noise(B))
    losses = []
    seed(round, SERVER, "train")
    for z in draws:
        optimizer.zero_grad()
        loss = real_loss(discriminator(generator(z)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def device_steps(
    federation: Federation,
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: int,
    round: int,
    noise_of: int,
) -> list[float]:
    """Algorithm 1: steps of D on m_k real and m_k generated images; whose noise it is depends on the schedule."""
    fakes = []
    for step in range(3):
        seed(round, noise_of, f"noise {step}")
        with torch.no_grad():
            fakes.append(generator(noise(B)[: SIZES[device]]))
    seed(round, device, "train")
    reals = islice(federation.reals(device, round, SIZES[device]), 3)
    return [discriminator_step(discriminator, optimizer, *pair) for pair in zip(reals, fakes, strict=True)]


def copy(network: nn.Module, values: np.ndarray) -> nn.Module:
    """Another network with these values, parameters and buffers."""
    start = 0
    with torch.no_grad():
        for tensor in network.state_dict().values():
            part = values[start : start + tensor.numel()]
            tensor.copy_(torch.from_numpy(part).view(tensor.shape))
            start += tensor.numel()
    return network


def test_serial_with_one_device_is_an_alternating_loop_in_plain_pytorch() -> None:
    """3 steps of D, 2 of G, three rounds; the moments of both Adams go on. The loop has one D and one G."""
    federation = Federation(ren("serial"), [[7, 5]])
    state, reports = federation.rounds(3)

    generator, discriminator = networks(SERVER)
    adam_g, adam_d = adam(generator), adam(discriminator)
    for round in (1, 2, 3):
        # G's BatchNorm statistics are the server's own: the device's copy generates beside it.
        theirs = copy(networks(SERVER)[0], vector(generator))
        losses_d = device_steps(federation, theirs, discriminator, adam_d, 0, round, noise_of=0)
        losses_g = generator_steps(generator, discriminator, adam_g, round, 2)

    np.testing.assert_array_equal(state.arrays[PHI], vector(discriminator))
    np.testing.assert_array_equal(state.arrays[THETA], vector(generator))
    assert reports[0].metrics["loss_d"] == pytest.approx(np.mean(losses_d), rel=1e-5)
    assert reports[0].metrics["loss_g"] == pytest.approx(np.mean(losses_g), rel=1e-5)
    assert reports[0].examples == 3 * B


@pytest.mark.parametrize("schedule", ["serial", "parallel"])
def test_two_rounds_of_four_devices_in_plain_pytorch(schedule: str) -> None:
    """phi is the mean weighted by m_k = 6, 3, 6, 5; G follows the new phi (serial) or the old one (parallel)."""
    federation = Federation(ren(schedule), COUNTS)
    state, _ = federation.rounds(2)

    generator, discriminator = networks(SERVER)
    adam_g = adam(generator)
    locals_ = [networks(SERVER)[1] for _ in range(4)]
    adams = [adam(network) for network in locals_]
    phi = vector(discriminator)
    for round in (1, 2):
        theta = vector(generator)
        trained = []
        for device in range(4):
            copy(locals_[device], phi)
            shared = SERVER if schedule == "parallel" else device
            theirs = copy(networks(SERVER)[0], theta)
            device_steps(federation, theirs, locals_[device], adams[device], device, round, shared)
            trained.append(vector(locals_[device]).astype(np.float64))
        new = sum(weight / 20 * each for weight, each in zip(SIZES, trained, strict=True)).astype(np.float32)
        generator_steps(generator, copy(discriminator, phi if schedule == "parallel" else new), adam_g, round, 2)
        phi = new

    assert_near(state.arrays[PHI], phi, 1e-6)
    assert_near(state.arrays[THETA], vector(generator), 1e-6)


def test_parallel_draws_one_noise_on_both_sides_and_serial_does_not() -> None:
    """Section III.A. What the device shows its D is G(theta, z) for the server's own z, its first m_k of them."""
    shown: dict[str, dict[int, list[np.ndarray]]] = {}
    for schedule in ("serial", "parallel"):
        seen = shown[schedule] = {}

        class Watched(Device):
            def train(self, *args: Any, seen: dict[int, list[np.ndarray]] = seen) -> Update:
                gan = self.context.workspace.gan
                step = gan.discriminator_step
                seen[self.context.device] = []
                gan.discriminator_step = lambda real, fakes: (  # type: ignore[method-assign]
                    seen[self.context.device].append(fakes.numpy().copy()),
                    step(real, fakes),
                )[1]
                try:
                    return super().train(*args)
                finally:
                    gan.discriminator_step = step  # type: ignore[method-assign]

        Federation(ren(schedule), COUNTS, Watched).rounds()

    generator, _ = networks(SERVER)
    for step in range(3):
        seed(1, SERVER, f"noise {step}")
        z = noise(B)
        for device, size in enumerate(SIZES):
            with torch.no_grad():
                expected = generator(z[:size]).numpy()
            np.testing.assert_allclose(shown["parallel"][device][step], expected, atol=1e-5)
            assert np.abs(shown["serial"][device][step] - expected).max() > 1e-2
        assert np.abs(shown["serial"][0][step] - shown["serial"][2][step]).max() > 1e-2


def test_average_weights_by_hand() -> None:
    loads = [Load(size, 9 - k) for k, size in enumerate(SIZES)]
    np.testing.assert_allclose(by_batch(range(4), loads), [0.3, 0.15, 0.3, 0.25])


class Trouble(LocalFleet):
    """A fleet in which some devices' replies do not count: what a network, or a bad device, does."""

    def __init__(self, federation: Federation, out: dict[int, str]) -> None:
        super().__init__(federation.host)
        self.out = out

    def collect(self, futures: Any, deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        replies = super().collect(futures, deadline, quorum)
        self.revert([future for future in futures if self.out.get(future.device) == "late"])
        replies = [self._changed_reply(reply) for reply in replies]
        if sum(not isinstance(reply, Missing) for reply in replies) < quorum * len(replies):
            raise QuorumError("too few")
        return replies

    def _changed_reply(self, reply: Update) -> Any:
        match self.out.get(reply.client):
            case "late" | "lost" as reason:
                return Missing(reply.client, reason)
            case "nan":
                return replace(reply, models=Packed(reply.models.data * np.nan, reply.models.scales))
            case "short":
                return replace(reply, models=Packed(reply.models.data[1:], reply.models.scales))
        return reply


class Chosen:
    """A scheduler that selects the devices it is told to."""

    def __init__(self, scheduler: Any, group: list[int]) -> None:
        self.scheduler, self.group = scheduler, group

    def select(self, round: int, state: Any) -> tuple[list[int], Any]:
        return self.group, state

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scheduler, name)


@pytest.mark.parametrize("schedule", ["serial", "parallel"])
@pytest.mark.parametrize("how", ["late", "lost", "nan", "short"])
def test_a_device_left_out_changes_nothing_for_the_others(schedule: str, how: str) -> None:
    """Two rounds, device 2's replies not counting, against two in which it was never asked."""
    without, among = Federation(ren(schedule), COUNTS), Federation(ren(schedule), COUNTS)
    without.server.scheduler = Chosen(without.server.scheduler, [0, 1, 3])
    among.fleet = Trouble(among, {2: how})
    (expected, few), (state, reports) = without.rounds(2), among.rounds(2)
    for name in expected.arrays:
        np.testing.assert_array_equal(state.arrays[name], expected.arrays[name])
    assert reports == few
    assert [report.client for report in reports] == [0, 1, 3]
    assert among.fleet.settle().rejected == ({2} if how in ("nan", "short") else set())


@pytest.mark.parametrize("schedule", ["serial", "parallel"])
def test_a_round_without_updates_keeps_both_models(schedule: str) -> None:
    federation = Federation(ren(schedule), COUNTS)
    federation.fleet = Trouble(federation, dict.fromkeys(range(4), "lost"))
    before = federation.server.init()
    after, reports = federation.server.round(before, federation.fleet)
    assert reports == []
    for name in before.arrays:
        np.testing.assert_array_equal(after.arrays[name], before.arrays[name])


def test_below_the_quorum_the_round_is_abandoned() -> None:
    federation = Federation(ren("serial", quorum=0.75), COUNTS)
    federation.fleet = Trouble(federation, {0: "lost", 2: "lost"})
    assert federation.rounds()[1] == []


@pytest.mark.parametrize(("wire", "value", "scale"), [("float32", 4, 0), ("float16", 2, 0), ("int8", 1, 4)])
@pytest.mark.parametrize("schedule", ["serial", "parallel"])
def test_phi_and_theta_go_down_and_phi_comes_up(schedule: str, wire: str, value: int, scale: int) -> None:
    federation = Federation(ren(schedule, fraction=0.5, sampling="round-robin"), COUNTS, wire=wire)
    federation.rounds()
    ledger = federation.fleet.settle()
    theta, phi = (
        sum(tensor.numel() * value + scale for tensor in network.state_dict().values()) for network in networks(0)
    )
    assert ledger.bytes_down == 2 * (phi + theta)
    assert ledger.bytes_up == 2 * phi
    assert ledger.bytes_across == 0
    assert ledger.bytes_by_device() == dict.fromkeys((0, 1), 2 * phi + theta)


def outline(event: Event) -> str:
    match event:
        case Share(handle, since):
            return f"share {handle}" + (f" since {since}" if since else "")
        case Mark(name):
            return f"mark {name}"
        case Work(method):
            return method
        case Call(_, device, method):
            return f"{method} {device}"
        case Collect(calls):
            return f"collect {len(calls)}"


DEVICES = ["train 0", "train 1", "train 2", "train 3"]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # phi stands, and may be sent, before the generator's steps.
        ("serial", [*DEVICES, "collect 4", "average", "mark phi", "update generator"]),
        # The server's steps run beside the devices'.
        ("parallel", [*DEVICES, "update generator", "collect 4", "average", "mark phi"]),
    ],
)
def test_the_order_of_a_round(schedule: str, expected: list[str]) -> None:
    federation = Federation(ren(schedule), COUNTS)
    state = federation.server.init()
    for first in (1, 3):
        state, _ = federation.server.round(state, federation.fleet)
        ledger = federation.fleet.settle()
        assert [outline(event) for event in ledger.events] == [
            f"share {first} since phi",
            f"share {first + 1}",
            *expected,
        ]
        for call in ledger.calls:
            assert [(each.source, each.handle) for each in call.inputs[:2]] == [(SERVER, first), (SERVER, first + 1)]
        # Five images a step at least: the work is on record.
        assert all(event.flops > 0 for event in ledger.events if isinstance(event, Work | Call))


def test_moments_stay_on_the_device_or_start_afresh() -> None:
    for moments, kept in (("keep", True), ("fresh", False)):
        federation = Federation(ren("serial", moments=moments), COUNTS)
        federation.rounds()
        states = federation.fleet.changed()
        assert all(bool(state) == kept for state in states.values())
        assert all(not any(name == PHI or THETA in name for name in state) for state in states.values())
