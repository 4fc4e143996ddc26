"""AsynDGAN against plain PyTorch in one process, and against what may cross a site's line."""

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.fleet.codec import Packed
from rayfed.methods.asyn_dgan.algorithm import Device, conditions
from rayfed.methods.md_gan.layout import D, Feedback, G
from rayfed.models.networks import LATENT
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, generator
from tests.methods.federation import (
    SEED,
    SIDE,
    Federation,
    adam,
    assert_near,
    fake_loss,
    gradient,
    networks,
    noise,
    real_loss,
    seed,
    vector,
)

B = 5
COUNTS = [[8, 0, 2], [0, 3, 3], [5, 5, 14]]
METHOD = {"name": "asyn-dgan", "batch": B, "iterations": 1}


def drawn(device: int, round: int = 1, iteration: int = 0) -> np.ndarray:
    """A site's conditions: one of its classes for each image of the batch, each as often as it has it."""
    shares = np.array(COUNTS[device]) / np.sum(COUNTS[device])
    return generator(SEED, round, device, f"conditions {iteration}").choice(3, B, p=shares)


def generated(plain: nn.Module, device: int) -> Tensor:
    """The fakes of the first iteration for a site; who else takes part does not change them."""
    seed(1, device, "noise 0")
    return plain(torch.cat((noise(B), F.one_hot(torch.tensor(drawn(device)), 3).float()), 1))


def scored(discriminator: nn.Module, images: Tensor, labels: np.ndarray) -> Tensor:
    """The label as one plane of ones among planes of zeros behind the image."""
    planes = torch.zeros(len(images), 3, SIDE, SIDE)
    for i, label in enumerate(labels):
        planes[i, label] = 1
    return discriminator(torch.cat((images, planes), 1).contiguous(memory_format=torch.channels_last))


def test_conditions_follow_a_devices_classes_and_are_the_same_for_whoever_asks() -> None:
    """Counts (1, 0, 3): of 4000 labels 1000 are class 0, standard deviation sqrt(4000 * 3/16) = 27; none is class 1."""
    counts = np.array([1, 0, 3])
    labels = np.concatenate([conditions(7, round, 2, 4, counts, 40) for round in range(100)])
    times = np.bincount(labels, minlength=3)
    assert times[1] == 0
    assert abs(times[0] - 1000) < 120
    assert conditions(7, 3, 2, 4, counts, 40).tolist() == conditions(7, 3, 2, 4, 10 * counts, 40).tolist()
    for other in ((8, 3, 2, 4), (7, 4, 2, 4), (7, 3, 1, 4), (7, 3, 2, 5)):
        assert conditions(7, 3, 2, 4, counts, 40).tolist() != conditions(*other, counts, 40).tolist()


class Watched(Device):
    """Keeps what it was sent."""

    sent: dict[int, tuple[Any, ...]]

    def feedback(self, *args: Any) -> Feedback:
        self.sent[self.context.device] = args
        return super().feedback(*args)


def test_each_site_gets_fakes_of_its_own_classes_and_no_labels() -> None:
    """What the server draws by its registry is what the site works out from its own labels."""
    Watched.sent = {}
    federation = Federation(METHOD, COUNTS, Watched)
    federation.rounds()
    plain, _ = networks(SERVER, 3)
    for device in range(3):
        fakes, *rest = Watched.sent[device]
        assert isinstance(fakes, Packed)
        np.testing.assert_allclose(fakes.data, generated(plain, device).detach().flatten().numpy(), atol=1e-6)
        assert rest == [Load(B, 1, B), 1, 0]
    assert len({Watched.sent[device][0].data.tobytes() for device in range(3)}) == 3


@pytest.mark.parametrize("steps", [1, 2])
def test_the_gradient_is_that_of_the_samples_weighted_sum_in_one_place(steps: int) -> None:
    """10, 6 and 24 samples: 1/4 of the first site's loss, 3/20 of the second's, 3/5 of the third's."""
    federation = Federation(METHOD | {"d_steps": steps}, COUNTS)
    _, reports = federation.rounds()

    plain, _ = networks(SERVER, 3)
    fakes = [generated(plain, device) for device in range(3)]
    losses, states = [], federation.fleet.changed()
    for device, images in enumerate(fakes):
        discriminator = networks(device, 3)[1]
        optimizer = adam(discriminator)
        seed(1, device, "train 0")
        for samples in islice(federation.real_samples(device, 1, B), steps):
            real = torch.from_numpy(federation.images[samples]).float() / 127.5 - 1
            optimizer.zero_grad()
            score_real = scored(discriminator, real, federation.labels[samples])
            score_fake = scored(discriminator, images.detach(), drawn(device))
            ((real_loss(score_real) + fake_loss(score_fake)) / 2).backward()
            optimizer.step()
        losses.append(real_loss(scored(discriminator, images, drawn(device))))
        assert_near(states[device][D], vector(discriminator))
        assert reports[device].metrics["loss_g"] == pytest.approx(losses[-1].item(), rel=1e-5)
    (0.25 * losses[0] + 0.15 * losses[1] + 0.6 * losses[2]).backward()
    assert_near(federation.generator_gradient(), gradient(plain))


def test_sites_that_answered_share_the_weight() -> None:
    """Without the second site 10/34 and 24/34: the gradient of the round in which it replies rubbish."""

    class Spoiling(Device):
        def feedback(self, *args: Any) -> Feedback:
            reply = super().feedback(*args)
            short = Packed(reply.gradient.data[:-1], reply.gradient.scales)
            return replace(reply, gradient=short) if self.context.device == 1 else reply

    federation = Federation(METHOD, COUNTS, Spoiling)
    _, reports = federation.rounds()
    assert [report.client for report in reports] == [0, 2]

    plain, _ = networks(SERVER, 3)
    fakes = [generated(plain, device) for device in range(3)]
    gradients = {}

    class Kept(Device):
        def feedback(self, *args: Any) -> Feedback:
            reply = super().feedback(*args)
            gradients[self.context.device] = torch.tensor(reply.gradient.data).view(B, 1, SIDE, SIDE)
            return reply

    Federation(METHOD, COUNTS, Kept).rounds()
    torch.autograd.backward([fakes[0], fakes[2]], [10 / 34 * gradients[0], 24 / 34 * gradients[2]])
    assert_near(federation.generator_gradient(), gradient(plain))


@pytest.mark.parametrize(("wire", "value", "scale"), [("float32", 4, 0), ("float16", 2, 0), ("int8", 1, 4)])
def test_images_go_down_their_gradients_come_up_and_nothing_else_moves(wire: str, value: int, scale: int) -> None:
    federation = Federation(METHOD | {"iterations": 3, "d_steps": 2}, COUNTS, wire=wire)
    federation.rounds()
    ledger = federation.fleet.settle()
    batch = B * SIDE * SIDE * value + scale
    assert ledger.bytes_down == ledger.bytes_up == 3 * 3 * batch
    assert ledger.bytes_across == 0
    assert {transfer.nbytes for transfer in ledger.transfers} == {batch}
    assert {call.method for call in ledger.calls} == {"feedback"}


def test_generate_asks_for_every_class_in_turn() -> None:
    """Images of classes 0, 1, 2, 0, 1, 2, 0 from the noise of the seed alone."""
    federation = Federation(METHOD, COUNTS)
    state, _ = federation.rounds()
    gan = federation.server.workspace.gan
    images = gan.generate(7, seed=5, batch=3)
    z = torch.randn(7, LATENT, generator=torch.Generator().manual_seed(5))
    labels = torch.eye(3)[[0, 1, 2, 0, 1, 2, 0]]
    with torch.no_grad():
        expected = gan.generator.eval()(torch.cat((z, labels), 1))
        shifted = gan.generator(torch.cat((z, labels.roll(1, 0)), 1))
    np.testing.assert_allclose(images, (expected + 1).mul(127.5).round().numpy(), atol=1)
    assert (images != (shifted + 1).mul(127.5).round().numpy()).mean() > 0.01
    assert state.arrays[G].size == sum(tensor.numel() for tensor in networks(SERVER, 3)[0].state_dict().values())


def test_a_round_without_replies_leaves_the_generator_as_it_was() -> None:
    class Silent(Device):
        def feedback(self, *args: Any) -> Feedback:
            reply = super().feedback(*args)
            return replace(reply, gradient=Packed(reply.gradient.data * np.nan, reply.gradient.scales))

    federation = Federation(METHOD, COUNTS, Silent)
    before = federation.server.init()
    after, reports = federation.server.round(before, federation.fleet)
    assert reports == []
    assert federation.fleet.settle().rejected == set(range(len(COUNTS)))
    for name in before.arrays:
        np.testing.assert_array_equal(after.arrays[name], before.arrays[name])
