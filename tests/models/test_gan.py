"""The training step against plain PyTorch written out here, and a workspace that carries nothing over."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rayfed.config import Model, parse
from rayfed.errors import UserError
from rayfed.models import flat
from rayfed.models.gan import GAN, gan_of, to_images, to_uint8
from rayfed.models.networks import LATENT, architecture


def batches(count: int = 3, size: int = 8, side: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, 1, side, side), np.uint8) for _ in range(count)]


def without_dropout(gan: GAN) -> GAN:
    for module in gan.discriminator.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return gan


@pytest.mark.parametrize(("name", "loss"), [("lsgan", F.mse_loss), ("dcgan32", F.binary_cross_entropy_with_logits)])
def test_three_steps_equal_plain_pytorch(name: str, loss) -> None:
    """The authors' loop in float64 with torch's unfused Adam: our float32 step moves the weights the same way.

    Adam divides each gradient by its own size, so rounding shows where gradients are tiny: the tolerance is on the
    distance moved, not on each weight.
    """
    gan = without_dropout(GAN(Model(name=name), 1))
    gan.initialise(7)
    start = gan.models()
    generator, discriminator = copy.deepcopy(gan.generator).double(), copy.deepcopy(gan.discriminator).double()
    adams = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator)]

    losses = gan.train(batches(), seed=11)

    torch.manual_seed(11)
    expected = []
    for batch in batches():
        real = torch.from_numpy(batch).double() / 127.5 - 1
        z = torch.randn(8, LATENT).double()
        one, zero = torch.ones(8, 1).double(), torch.zeros(8, 1).double()
        fakes = generator(z)
        loss_g = loss(discriminator(fakes), one)
        adams[0].zero_grad()
        loss_g.backward()
        adams[0].step()
        adams[1].zero_grad()
        loss_d = 0.5 * (loss(discriminator(real), one) + loss(discriminator(fakes.detach()), zero))
        loss_d.backward()
        adams[1].step()
        expected.append((loss_g.item(), loss_d.item()))

    np.testing.assert_allclose(losses, np.mean(expected, axis=0), rtol=1e-5)
    for key, theirs in (("generator", generator), ("discriminator", discriminator)):
        moved = flat.module_to_vector(theirs) - start[key]
        assert np.linalg.norm(gan.models()[key] - start[key] - moved) < 0.01 * np.linalg.norm(moved)


PAIRS = "tests.plugins.networks"


@pytest.mark.parametrize("name", ["dcgan28", f"{PAIRS}:NORMED"])
def test_batch_norm_over_vectors_cannot_do_with_a_batch_of_one(name: str) -> None:
    """As torch says in the first step."""
    tree = {"method": {"name": "fegan", "batch": 1}, "model": {"name": name, "width": 4}}
    with pytest.raises(UserError) as caught:
        gan_of(parse(tree), 1, 10)
    assert str(caught.value) == (
        f"method.batch = 1: {name}'s BatchNorm over vectors needs at least 2 images in a batch"
    )
    gan = GAN(Model(name=name, width=4), 1)
    gan.load_optimizer_state(None)
    side = architecture(name).side
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        gan.train(batches(1, size=1, side=side), seed=0)
    gan.train(batches(1, size=2, side=side), seed=0)


@pytest.mark.parametrize("name", ["lsgan", "dcgan32", f"{PAIRS}:GOOD"])
def test_other_networks_train_on_a_batch_of_one(name: str) -> None:
    gan = gan_of(parse({"method": {"name": "fegan", "batch": 1}, "model": {"name": name}}), 1, 10)
    gan.load_optimizer_state(None)
    gan.initialise(0)
    assert np.isfinite(gan.train(batches(1, size=1, side=architecture(name).side), seed=0)).all()


def test_a_workspace_carries_nothing_from_one_device_to_the_next() -> None:
    """A, then B on the same workspace equals B on a fresh one, bit for bit."""
    used, fresh = GAN(Model(), 1), GAN(Model(), 1)
    fresh.initialise(3)
    start = fresh.models()
    used.initialise(4)
    used.train(batches(2), seed=1)
    used.load_models(start)
    used.load_optimizer_state(None)
    for gan in (used, fresh):
        gan.train(batches(2), seed=2)
    for name in start:
        np.testing.assert_array_equal(used.models()[name], fresh.models()[name])


def test_moments_resume_an_optimizer_exactly() -> None:
    """Two steps, save, two more; against a second workspace that loads what was saved."""
    whole, resumed = GAN(Model(name="dcgan28", width=8), 1), GAN(Model(name="dcgan28", width=8), 1)
    whole.initialise(1)
    whole.train(batches(2, side=28), seed=5)
    models, moments = whole.models(), whole.optimizer_state()
    assert moments["generator.step"].max() == 2
    resumed.load_models(models)
    resumed.load_optimizer_state(moments)
    for gan in (whole, resumed):
        gan.train(batches(2, side=28), seed=6)
    for name, vector in whole.models().items():
        np.testing.assert_array_equal(vector, resumed.models()[name])


def test_training_leaves_torchs_global_generator_alone() -> None:
    gan = GAN(Model(name="dcgan28", width=8), 1)
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    gan.train(batches(1, side=28), seed=9)
    gan.initialise(5)
    gan.generate(2, seed=1)
    assert torch.equal(torch.randn(3), expected)


def test_a_vector_holds_parameters_and_buffers_in_order() -> None:
    module = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    module[0].weight.data = torch.tensor([[1.0, 2.0]])
    module[0].bias.data = torch.tensor([3.0])
    module[1].running_mean.fill_(4)
    module[1].num_batches_tracked.fill_(6)
    vector = flat.module_to_vector(module)
    assert vector.tolist() == [1, 2, 3, 1, 0, 4, 1, 6]
    assert flat.sizes(module) == (2, 1, 1, 1, 1, 1, 1)
    vector[-1] = 7.4
    flat.vector_to_module(vector, module)
    assert module[1].num_batches_tracked.item() == 7
    with pytest.raises(RuntimeError):
        flat.vector_to_module(vector[:-1], module)


def test_images_survive_the_way_to_a_tensor_and_back() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = to_images(images, torch.device("cpu"))
    assert (x.min().item(), x.max().item()) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(x), images)


def test_generated_images_depend_on_the_seed_alone() -> None:
    gan = GAN(Model(name="dcgan28", width=8), 1)
    gan.initialise(1)
    images = gan.generate(5, seed=3)
    assert images.shape == (5, 1, 28, 28)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, gan.generate(5, seed=3, batch=5))
    assert (images != gan.generate(5, seed=4)).any()
