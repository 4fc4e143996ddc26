"""Networks by a dotted name: tried before anything starts, and whatever is wrong with them is told in one line."""

import numpy as np
import pytest
import torch

from rayfed.config import Model
from rayfed.errors import UserError
from rayfed.models.gan import GAN
from rayfed.models.networks import architecture
from rayfed.models.portions import described

MODULE = "tests.plugins.networks"


def named(pair: str) -> Model:
    return Model(name=f"{MODULE}:{pair}", width=4)


@pytest.mark.parametrize("classes", [0, 3])
def test_the_networks_of_a_package_make_a_gan(classes: int) -> None:
    gan = GAN(named("GOOD"), 3, classes=classes)
    assert architecture(named("GOOD").name).side == 8
    assert gan.sizes == {
        "generator": ((100 + classes) * 3 * 64, 3 * 64),
        "discriminator": ((3 + classes) * 64, 1),
    }
    assert gan.loss(torch.tensor([3.0]), torch.tensor([1.0])).item() == 4  # the mean square, not the cross-entropy
    assert gan.generator.training
    assert gan.generate(2, seed=0).shape == (2, 3, 8, 8)
    gan.initialise(0)
    fresh = gan.models()["generator"]
    gan.load_optimizer_state(None)
    if not classes:
        gan.train([np.zeros((2, 3, 8, 8), np.uint8)], seed=0)  # what tried the networks left them fit for it
        assert not np.array_equal(gan.models()["generator"], fresh)


def test_a_discriminator_of_a_package_can_be_split() -> None:
    assert [(block.parameters, block.flops_forward) for block in described(named("GOOD"))] == [(65, 2 * 64)]


CALLED = "build(channels={}, width=4, classes={})"


@pytest.mark.parametrize(
    ("pair", "channels", "message"),
    [
        ("build", 1, "is a function; it must be a rayfed.models.networks.Architecture"),
        ("NO_FUNCTION", 1, "its build is a NoneType; it must be a function"),
        ("NO_SIDE", 1, "its side is 0; it must be a number of pixels"),
        ("NO_LOSS", 1, "its loss is 'wasserstein'; it must be one of mse, bce"),
        ("RAISES", 1, f"{CALLED} raises ZeroDivisionError: integer division or modulo by zero"),
        (
            "ONE_NETWORK",
            1,
            f"{CALLED} gives no pair; it must give (generator, discriminator), two torch.nn.Modules",
        ),
        (
            "THREE_NETWORKS",
            1,
            f"{CALLED} gives no pair; it must give (generator, discriminator), two torch.nn.Modules",
        ),
        ("OTHER_SIDE", 1, f"{CALLED}: its generator makes [2, 1, 8, 8] of [2, 100]; it must make [2, 1, 9, 9]"),
        ("ONE_CHANNEL", 3, f"{CALLED}: its generator makes [2, 1, 8, 8] of [2, 100]; it must make [2, 3, 8, 8]"),
        ("TWO_SCORES", 1, f"{CALLED}: its discriminator makes [2, 2] of [2, 1, 8, 8]; it must make [2, 1]"),
        ("TWO_TENSORS", 1, f"{CALLED}: its generator makes a tuple of [2, 100]; it must make [2, 1, 8, 8]"),
    ],
)
def test_what_is_no_pair_of_networks_is_refused_in_one_line(pair: str, channels: int, message: str) -> None:
    model = named(pair)
    with pytest.raises(UserError) as caught:
        GAN(model, channels)
    assert str(caught.value) == f"model.name = {model.name!r}: {message.format(channels, 0)}"


def test_networks_that_take_no_labels_are_refused_where_there_are_labels() -> None:
    GAN(named("WITHOUT_CLASSES"), 1)
    with pytest.raises(UserError) as caught:
        GAN(named("WITHOUT_CLASSES"), 1, classes=3)
    start = f"model.name = '{MODULE}:WITHOUT_CLASSES': {CALLED.format(1, 3)}: its generator raises RuntimeError: "
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith(" on float32 [2, 103]")
    assert "\n" not in str(caught.value)


def test_only_a_sequential_discriminator_can_be_split() -> None:
    with pytest.raises(UserError, match="its discriminator is a ModuleList; only a Sequential can be split"):
        described(named("IN_A_LIST"))
