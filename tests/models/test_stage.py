"""Stages of networks that are no discriminators: split anywhere they are the unsplit network, bit for bit."""

import copy
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.config import Model
from rayfed.models import flat
from rayfed.models.portions import blocks
from rayfed.models.stage import MOMENTS, Arrays, Stage, activation_codec, to_array, to_tensor

BATCH, CLASSES, STEPS = 6, 5, 4
ADAM = Model(lr=3e-3, beta1=0.6, beta2=0.95)


def convolutional(dropout: float) -> nn.Sequential:
    """A classifier of images [B, 2, 8, 8] in 4 blocks."""
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, 1, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout2d(dropout),
        nn.Conv2d(6, 8, 3, 2, 1, bias=False),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 2 * 2, 10),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(10, CLASSES),
    )


def dense(dropout: float) -> nn.Sequential:
    """A classifier of the same images in 3 blocks; the first begins with a layer that has no weights."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(2 * 8 * 8, 16),
        nn.BatchNorm1d(16),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Dropout(dropout),
        nn.Linear(16, 8, bias=False),
        nn.GELU(),
        nn.Linear(8, CLASSES),
    )


NETWORKS: dict[str, tuple[Callable[[float], nn.Sequential], int]] = {"conv": (convolutional, 4), "dense": (dense, 3)}
SPLITS = [
    pytest.param(name, (*cuts, count), id=f"{name} {cuts}")
    for name, (_, count) in NETWORKS.items()
    for number in range(1, count)
    for cuts in combinations(range(1, count), number)
]
"""Every way to cut a network between its blocks, once or more often."""


def network(name: str, dropout: float) -> nn.Sequential:
    torch.manual_seed(1)
    return NETWORKS[name][0](dropout)


def batch(step: int) -> tuple[np.ndarray, Tensor]:
    rng = np.random.default_rng(step)
    return rng.normal(size=(BATCH, 2, 8, 8)).astype(np.float32), torch.from_numpy(rng.integers(0, CLASSES, BATCH))


class Holder:
    """Who holds some of a network's blocks: its workspace has other weights until it loads its own."""

    def __init__(self, whole: nn.Sequential, numbers: range) -> None:
        self.numbers = numbers
        every = blocks(whole)
        self.state: Arrays = {f"block{number}": flat.module_to_vector(every[number]) for number in numbers}
        self.workspace = copy.deepcopy(whole)
        with torch.no_grad():
            for tensor in self.workspace.state_dict().values():
                tensor.fill_(7)

    def run(self, array: np.ndarray, step: int, wants_gradient: bool) -> tuple[Stage, Tensor, Tensor]:
        """The stage, what it was given, and what it made of it."""
        stage = Stage(self.workspace, ADAM, self.numbers, self.state)
        x = to_tensor(array, torch.device("cpu")).requires_grad_(wants_gradient)
        return stage, x, stage.run(x, slice(None), len(array), lambda layer: 1000 * step + layer)

    def learn(self, stage: Stage) -> None:
        self.state |= stage.update(stage.gradients(), self.state)


def train(name: str, ends: tuple[int, ...], dropout: float) -> tuple[Arrays, list[float], list[np.ndarray]]:
    """Some steps on a network cut at `ends`: all its state, the losses, and the gradients of the images."""
    whole = network(name, dropout)
    holders = [Holder(whole, range(start, end)) for start, end in pairwise((0, *ends))]
    losses, gradients = [], []
    for step in range(STEPS):
        images, labels = batch(step)
        given = [images]
        for holder in holders[:-1]:
            with torch.no_grad():
                given.append(to_array(holder.run(given[-1], step, False)[2]))
        stage, x, scores = holders[-1].run(given[-1], step, True)
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        losses.append(loss.item())
        holders[-1].learn(stage)
        gradient = to_array(x.grad)
        for holder, array in zip(reversed(holders[:-1]), reversed(given[:-1]), strict=True):
            stage, x, output = holder.run(array, step, True)
            output.backward(to_tensor(gradient, torch.device("cpu")))
            holder.learn(stage)
            gradient = to_array(x.grad)
        gradients.append(gradient)
    return {key: value for holder in holders for key, value in holder.state.items()}, losses, gradients


@pytest.mark.parametrize(("name", "ends"), SPLITS)
def test_split_anywhere_it_is_the_unsplit_network(name: str, ends: tuple[int, ...]) -> None:
    """Weights, BatchNorm's statistics, Adam's state, losses and gradients, with dropout."""
    whole, losses, gradients = train(name, (NETWORKS[name][1],), 0.4)
    found, split_losses, split_gradients = train(name, ends, 0.4)
    assert found.keys() == whole.keys()
    for key, array in whole.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    assert split_losses == losses
    np.testing.assert_array_equal(split_gradients, gradients)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_unsplit_network_is_a_loop_in_plain_pytorch(name: str) -> None:
    """Without dropout, whose masks are drawn in another way there."""
    found, losses, gradients = train(name, (NETWORKS[name][1],), 0.0)
    plain = network(name, 0.0).train()
    adam = torch.optim.Adam(plain.parameters(), 3e-3, (0.6, 0.95), fused=True)
    for step in range(STEPS):
        images, labels = batch(step)
        x = torch.from_numpy(images).to(memory_format=torch.channels_last).requires_grad_()
        adam.zero_grad()
        loss = F.cross_entropy(plain(x), labels)
        loss.backward()
        adam.step()
        assert losses[step] == loss.item()
        np.testing.assert_array_equal(gradients[step], x.grad)
    for number, block in enumerate(blocks(plain)):
        np.testing.assert_array_equal(found[f"block{number}"], flat.module_to_vector(block))
        states = [adam.state[parameter] for parameter in block.parameters()]
        for key in MOMENTS:
            np.testing.assert_array_equal(found[f"block{number}.{key}"], flat.flatten(each[key] for each in states))


@pytest.mark.parametrize(("name", "count"), [(name, count) for name, (_, count) in NETWORKS.items()])
def test_blocks_of_any_network_have_one_layer_with_weights_at_least(name: str, count: int) -> None:
    whole = network(name, 0.0)
    found = blocks(whole)
    assert len(found) == count
    assert [layer for block in found for layer in block] == list(whole)
    assert all(sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in block) == 1 for block in found)


@pytest.mark.parametrize("layer", [nn.Dropout(0.25), nn.Dropout2d(0.25)])
def test_a_mask_is_that_of_the_whole_batch_however_it_is_cut(layer: nn.Module) -> None:
    """Ones in: 0 or 4/3 comes out, 3 in 4 of them kept; Dropout2d keeps or drops whole maps."""
    net = nn.Sequential(nn.Conv2d(1, 40, 1), layer)
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(1)
    state = {"block0": flat.module_to_vector(net)}
    x = torch.zeros(40, 1, 4, 4)

    def masked(*rows: slice) -> Tensor:
        with torch.no_grad():
            return torch.cat(
                [Stage(net, ADAM, [0], state).run(x[each], each, 40, lambda index: index) for each in rows]
            )

    whole = masked(slice(0, 40))
    assert torch.equal(masked(slice(0, 7), slice(7, 30), slice(30, 40)), whole)
    assert set(whole.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    maps = isinstance(layer, nn.Dropout2d)
    assert bool((whole == whole[:, :, :1, :1]).all()) == maps
    drawn = 40 * 40 * (1 if maps else 16)
    deviation = (0.25 * 0.75 / drawn) ** 0.5
    assert abs((whole > 0).float().mean().item() - 0.75) < 5 * deviation


def test_a_frozen_stage_gives_the_inputs_gradient_alone() -> None:
    whole = network("conv", 0.0)
    holder = Holder(whole, range(4))
    images, _ = batch(0)
    stage, x, _ = holder.run(images, 0, True)
    stage.freeze(True)
    scores = stage.run(x, slice(None), BATCH, lambda layer: layer)
    scores.sum().backward()
    assert all(parameter.grad is None for parameter in holder.workspace.parameters())
    plain = whole.train()
    y = torch.from_numpy(images).to(memory_format=torch.channels_last).requires_grad_()
    plain(y).sum().backward()
    assert torch.equal(x.grad, y.grad)
    stage.freeze(False)
    assert all(parameter.requires_grad for parameter in holder.workspace.parameters())


@pytest.mark.parametrize(("wire", "nbytes"), [("float32", 24 * 4), ("float16", 24 * 2), ("int8", 24 + 4)])
@pytest.mark.parametrize("kind", ["activations", "gradients"])
def test_what_stages_hand_on_is_of_its_kind(wire: str, nbytes: int, kind: str) -> None:
    """Integers of 104 to 127 are exact in float16 too; int8 has one scale for all values, which is 127 / 127 here."""
    values = np.arange(24, dtype=np.float32) + 104
    packed = activation_codec(wire, 24, kind).encode({"values": values})
    assert (packed.kind, packed.nbytes) == (kind, nbytes)
    np.testing.assert_array_equal(activation_codec(wire, 24, kind).values(packed), values)


@pytest.mark.parametrize(("name", "layers"), [("conv", [3, 10]), ("dense", [4])])
def test_what_is_drawn_is_keyed_by_the_layers_place_in_the_network(name: str, layers: list[int]) -> None:
    """Whoever holds it: each block alone asks for the seeds of its own dropout layers."""
    whole, asked = network(name, 0.4), list[int]()

    def seed(layer: int) -> int:
        asked.append(layer)
        return layer

    x = torch.from_numpy(batch(0)[0])
    for number in range(NETWORKS[name][1]):
        holder = Holder(whole, range(number, number + 1))
        with torch.no_grad():
            x = Stage(holder.workspace, ADAM, [number], holder.state).run(x, slice(None), BATCH, seed)
    assert asked == layers
