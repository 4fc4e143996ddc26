"""IoTSL's networks by hand, and their training step against plain PyTorch written out here."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.models import flat
from rayfed.models.conditional import LATENT, ConditionalGAN, PixelNorm, critic, generator

CLASSES, WIDTH, BATCH = 3, 4, 6
LABELS = np.array([0, 1, 2, 2, 1, 0])


def gan(seed: int = 1) -> ConditionalGAN:
    made = ConditionalGAN(CLASSES, WIDTH)
    made.initialise(seed)
    return made


def batches(count: int = 5, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, 256, (BATCH, 1, 28, 28), np.uint8), rng.integers(0, CLASSES, BATCH)) for _ in range(count)]


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unchanged(gradient: Tensor) -> Tensor:
    return gradient


def one_hot(labels: np.ndarray) -> Tensor:
    return F.one_hot(torch.from_numpy(labels), CLASSES).float()


def test_parameters_as_published() -> None:
    """Section V-D: G of 10 values and a label, 256, 128, 64 and 1 channels; D of 64, 128 and 256."""
    dense = 20 * 4096 + 4096
    up = (256 * 128 * 25 + 128) + (128 * 64 * 25 + 64) + (64 * 1 * 64 + 1)
    assert sum(each.numel() for each in generator(10).parameters()) == dense + up == 1_114_305
    down = (11 * 64 * 25 + 64) + (64 * 128 * 25 + 128) + (128 * 256 * 25 + 256) + (4096 + 1)
    assert sum(each.numel() for each in critic(10).parameters()) == down == 1_046_145
    singular = (64 + 11 * 25) + (128 + 64 * 25) + (256 + 128 * 25) + (1 + 4096)
    assert sum(flat.sizes(critic(10))) == down + singular


def test_sides_as_published() -> None:
    def sides(network: nn.Sequential, x: Tensor, kind: type[nn.Module]) -> list[int]:
        found = []
        for layer in network:
            x = layer(x)
            if isinstance(layer, kind):
                found.append(x.shape[-1])
        return found

    assert sides(generator(10, 2), torch.zeros(1, 20), PixelNorm) == [4, 7, 11]
    made = generator(10, 2)(torch.zeros(5, 20))
    assert made.shape == (5, 1, 28, 28)
    assert 0 < made.min() < made.max() < 1
    assert sides(critic(10, 2), torch.zeros(1, 11, 28, 28), nn.Conv2d) == [14, 7, 4]


def test_pixel_norm_makes_each_pixels_channels_of_mean_square_one() -> None:
    x = torch.randn(2, 5, 3, 3, generator=draws(0)) * 7
    np.testing.assert_allclose(PixelNorm()(x).square().mean(dim=1), np.ones((2, 3, 3)), rtol=1e-5)


def test_the_critics_layers_have_spectral_norm_one() -> None:
    """By numpy's singular values, once the power iteration has had its steps."""
    made = gan()
    for _ in range(200):
        made.scores(torch.zeros(1, 1, 28, 28), LABELS[:1])
    made.critic.eval()
    layers = [layer for layer in made.critic if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4
    for layer in layers:
        weight = layer.weight.detach().flatten(1).numpy()
        assert np.linalg.svd(weight, compute_uv=False)[0] == pytest.approx(1, rel=1e-3)


def test_an_iteration_equals_plain_pytorch() -> None:
    """Losses (6) and (7) in float64 with torch's unfused Adam: our float32 step moves the weights the same way.

    Adam divides each gradient by its own size, so rounding shows where gradients are tiny: the tolerance is on the
    distance moved, not on each weight. The critic's last bias has a gradient of exactly 0 in its loss; rounding may
    move it by a learning rate a step, and with it the generator's loss, so it is left out of that.
    """
    ours = gan()
    start = ours.models()
    g, d = copy.deepcopy(ours.generator).double(), copy.deepcopy(ours.critic).double()
    adams = [torch.optim.Adam(net.parameters(), 1e-4, (0.5, 0.9)) for net in (g, d)]

    losses = ours.step(batches(), LABELS, draws(3), unchanged)

    source = draws(3)

    def noise(labels: np.ndarray) -> Tensor:
        bernoulli = torch.randint(2, (len(labels), LATENT), generator=source)
        return torch.cat((bernoulli, one_hot(labels)), 1).double()

    def score(x: Tensor, labels: np.ndarray) -> Tensor:
        planes = one_hot(labels).double()[:, :, None, None] * torch.ones(1, 1, 28, 28).double()
        return d(torch.cat((x, planes), 1))

    expected = []
    for images, labels in batches():
        x, fakes = torch.from_numpy(images).double() / 255, g(noise(labels)).detach()
        alpha = torch.rand(BATCH, 1, 1, 1, generator=source).double()
        mixed = (alpha * x + (1 - alpha) * fakes).requires_grad_()
        (slope,) = torch.autograd.grad(score(mixed, labels).sum(), mixed, create_graph=True)
        penalty = ((slope.square().sum(dim=(1, 2, 3)).sqrt() - 1) ** 2).mean()
        false, true = score(torch.cat((fakes, x)), np.concatenate((labels, labels))).chunk(2)
        loss = false.mean() - true.mean() + 10 * penalty
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        expected.append(loss.item())
    loss_g = -score(g(noise(LABELS)), LABELS).mean()
    adams[0].zero_grad()
    loss_g.backward()
    adams[0].step()

    biases = [dict(net.named_parameters())["7.bias"].item() for net in (ours.critic, d)]
    found, wanted = (loss + bias for loss, bias in zip((losses[0].item(), loss_g.item()), biases, strict=True))
    np.testing.assert_allclose(losses[1], np.mean(expected), rtol=1e-4)
    assert abs(found - wanted) < 0.5e-4  # half of what one of Adam's steps moves a weight
    for name, theirs in (("generator", g), ("critic", d)):
        moved = flat.module_to_vector(theirs) - start[name]
        assert np.linalg.norm(ours.models()[name] - start[name] - moved) < 0.01 * np.linalg.norm(moved)


def test_without_sanitising_the_generators_step_is_the_plain_one_bit_for_bit() -> None:
    ours = gan()
    plain = copy.deepcopy(ours)
    loss = ours.generator_step(LABELS, draws(5), unchanged)

    z = torch.randint(2, (BATCH, LATENT), generator=draws(5)).float()
    expected = -plain.scores(plain.generator(torch.cat((z, one_hot(LABELS)), 1)), LABELS).mean()
    expected.backward()
    for mine, theirs in zip(ours.generator.parameters(), plain.generator.parameters(), strict=True):
        assert mine.grad is not None
        assert torch.equal(mine.grad, theirs.grad)
    assert torch.equal(loss, expected.detach())


def test_the_generator_learns_from_what_the_sanitiser_leaves_alone() -> None:
    """A gradient of zeros moves nothing, whatever the critic says; and the critic is not moved by G's step."""
    ours = gan()
    before = ours.models()
    weights = [each.detach().clone() for each in ours.critic.parameters()]
    ours.generator_step(LABELS, draws(5), torch.zeros_like)
    np.testing.assert_array_equal(ours.models()["generator"], before["generator"])
    assert all(map(torch.equal, weights, ours.critic.parameters()))


def test_a_restored_critic_goes_on_bit_for_bit() -> None:
    """Two iterations, save, two more; against a second workspace that loads what was saved."""
    whole, resumed = gan(1), gan(2)
    for seed in (1, 2):
        whole.step(batches(2, seed), LABELS, draws(seed), unchanged)
    models, moments = whole.models(), whole.optimizer_state()
    assert moments["critic.step"].max() == 4
    resumed.load_models(models)
    resumed.load_optimizer_state(moments)
    for each in (whole, resumed):
        for seed in (3, 4):
            each.step(batches(2, seed), LABELS, draws(seed), unchanged)
    for name, vector in whole.models().items():
        np.testing.assert_array_equal(vector, resumed.models()[name])
        assert (vector != models[name]).any()


def test_a_workspace_carries_nothing_from_one_device_to_the_next() -> None:
    used, fresh = gan(4), gan(3)
    start = fresh.models()
    used.step(batches(2), LABELS, draws(1), unchanged)
    used.load_models(start)
    used.load_optimizer_state(None)
    for each in (used, fresh):
        each.step(batches(2), LABELS, draws(2), unchanged)
    for name in start:
        np.testing.assert_array_equal(used.models()[name], fresh.models()[name])


@pytest.mark.parametrize(
    "work",
    [
        lambda ours: ours.initialise(5),
        lambda ours: ours.step(batches(1), LABELS, draws(1), unchanged),
        lambda ours: ours.generate(LABELS, seed=1),
    ],
)
def test_nothing_is_drawn_from_torchs_global_generator(work: Callable[[ConditionalGAN], object]) -> None:
    ours = gan()
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    work(ours)
    assert torch.equal(torch.randn(3), expected)


def test_generated_images_depend_on_labels_and_seed_alone() -> None:
    ours = gan()
    images = ours.generate(LABELS, seed=3)
    assert images.shape == (BATCH, 1, 28, 28)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, ours.generate(LABELS, seed=3))
    assert (images != ours.generate(LABELS, seed=4)).any()
    others = ours.generate((LABELS + 1) % CLASSES, seed=3)
    assert all((mine != theirs).any() for mine, theirs in zip(images, others, strict=True))


def test_operations_of_a_generator_step_by_hand() -> None:
    """Two per multiply-add: G forward and backward, D forward and back to its input alone."""
    w = WIDTH
    dense = (LATENT + CLASSES) * 4 * w * 16
    up = (16 * 4 * w) * (2 * w * 25) + (49 * 2 * w) * (w * 25) + (121 * w) * 64
    down = (196 * w) * ((1 + CLASSES) * 25) + (49 * 2 * w) * (w * 25) + (16 * 4 * w) * (2 * w * 25) + 16 * 4 * w
    ours = gan()
    for _ in range(2):
        ours.generator_step(LABELS, draws(0), unchanged)
        assert ours.meter.take() == 2 * BATCH * (2 * dense + 3 * up + 2 * down)
