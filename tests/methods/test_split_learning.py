"""Split learning, SplitFed and FedAvg of a classifier against plain loops, and their bytes against formula (1)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rayfed.errors import UserError
from rayfed.fleet.ledger import Call, Work
from rayfed.models.classifiers import classifier, cut, initialise
from rayfed.seeding import SERVER, generator, torch_seed
from tests.methods.federation import SEED, Federation, vector

LR, BATCH, CLASSES, WIDTH = 1e-3, 4, 3, 4
UNEVEN = [[5, 0, 2], [0, 6, 3], [1, 1, 1]]
"""Samples per device and class: epochs of 2, 3 and 1 batches, the last of them smaller."""


def federation(
    name: str, counts: Any = UNEVEN, model: str = "cnn5", wire: str = "float32", **method: Any
) -> Federation:
    settings = {"name": name, "batch": BATCH, **method}
    return Federation(settings, counts, model={"name": model, "width": WIDTH, "lr": LR, "beta1": 0.9}, wire=wire)


def plain(layers: int = 2) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    """The network as the server draws it, and its halves, which share its layers."""
    network = classifier("cnn5").build(1, WIDTH, CLASSES).to(memory_format=torch.channels_last)
    torch.manual_seed(torch_seed(SEED, 0, SERVER, "weights"))
    initialise(network)
    return network, *cut(network, layers)


def adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), LR, (0.9, 0.999), fused=True)


def epoch(made: Federation, device: int, round: int) -> Iterator[tuple[Tensor, Tensor]]:
    """A device's samples once, in the order of the round."""
    order = generator(SEED, round, device, "batches").permutation(made.parts[device])
    for at in range(0, len(order), BATCH):
        chosen = order[at : at + BATCH]
        images = torch.from_numpy(made.images[chosen]).float().div(127.5).sub(1)
        yield images.to(memory_format=torch.channels_last), torch.from_numpy(made.labels[chosen])


def step(network: nn.Module, optimizers: list[torch.optim.Adam], images: Tensor, labels: Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    cross_entropy(network(images), labels).backward()
    for optimizer in optimizers:
        optimizer.step()


def whole(state: Any) -> np.ndarray:
    return np.concatenate([state.models["device_part"], state.models["server_part"]])


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_one_device_trains_the_unsplit_network_bit_for_bit(layers: int) -> None:
    made = federation("split-learning", [[4, 5, 2]], cut=layers)
    state, reports = made.rounds(3)
    network, _, _ = plain()
    optimizer = adam(network)
    for round in (1, 2, 3):
        for batch in epoch(made, 0, round):
            step(network, [optimizer], *batch)
    np.testing.assert_array_equal(whole(state), vector(network))
    assert [report.examples for report in reports] == [11]


def test_one_device_of_fedavg_trains_the_same() -> None:
    split, _ = federation("split-learning", [[4, 5, 2]]).rounds(3)
    averaged, _ = federation("fedavg", [[4, 5, 2]]).rounds(3)
    np.testing.assert_array_equal(whole(split), averaged.models["classifier"])


@pytest.mark.parametrize("hand_over", ["peers", "server"])
def test_the_devices_have_their_turns_one_after_the_other(hand_over: str) -> None:
    """f_a goes from hand to hand with each device's own moments; f_b and its moments stay on the server."""
    made = federation("split-learning", hand_over=hand_over)
    state, reports = made.rounds(2)
    network, f_a, f_b = plain()
    of_server, of_devices = adam(f_b), [adam(f_a) for _ in UNEVEN]
    for round in (1, 2):
        for device, of_device in enumerate(of_devices):
            for batch in epoch(made, device, round):
                step(network, [of_device, of_server], *batch)
    np.testing.assert_array_equal(whole(state), vector(network))
    assert [(report.client, report.examples) for report in reports] == [(0, 7), (1, 9), (2, 3)]


def test_splitfed_steps_one_f_b_on_all_and_averages_f_a() -> None:
    made = federation("splitfed")
    state, reports = made.rounds(1)
    _, _, f_b = plain()
    halves = [plain()[1] for _ in UNEVEN]
    of_server, of_devices = adam(f_b), [adam(half) for half in halves]
    batches = [list(epoch(made, device, 1)) for device in range(3)]
    for number in range(max(map(len, batches))):
        for device, half in enumerate(halves):
            if number < len(batches[device]):
                step(nn.Sequential(half, f_b), [of_devices[device], of_server], *batches[device][number])
    mean = np.average([vector(half) for half in halves], axis=0, weights=[7, 9, 3])
    np.testing.assert_allclose(state.models["device_part"], mean, rtol=0, atol=1e-7)
    np.testing.assert_allclose(state.models["server_part"], vector(f_b), rtol=0, atol=1e-7)
    assert [(report.client, report.examples) for report in reports] == [(0, 7), (1, 9), (2, 3)]


def test_fedavg_is_the_mean_of_whole_networks_weighted_by_samples() -> None:
    made = federation("fedavg")
    state, _ = made.rounds(1)
    found = []
    for device in range(3):
        network, _, _ = plain()
        optimizer = adam(network)
        for batch in epoch(made, device, 1):
            step(network, [optimizer], *batch)
        found.append(vector(network))
    mean = np.average(found, axis=0, weights=[7, 9, 3])
    np.testing.assert_allclose(state.models["classifier"], mean, rtol=0, atol=1e-7)


def test_the_centralised_classifier_has_all_samples_once_a_round() -> None:
    made = federation("centralized-classifier")
    state, [report] = made.rounds(1)
    assert (report.client, report.examples) == (SERVER, 19)
    rng = generator(SEED, 1, SERVER, "batches")
    order, (network, _, _) = rng.permutation(np.arange(19)), plain()
    optimizer = adam(network)
    for at in range(0, 19, BATCH):
        chosen = order[at : at + BATCH]
        images = torch.from_numpy(made.images[chosen]).float().div(127.5).sub(1).to(memory_format=torch.channels_last)
        step(network, [optimizer], images, torch.from_numpy(made.labels[chosen]))
    np.testing.assert_array_equal(state.models["classifier"], vector(network))


@pytest.mark.parametrize("counts", [[[4, 5, 2]], [[4, 4, 4]] * 3, UNEVEN])
def test_a_round_moves_the_values_of_formula_1(counts: list[list[int]]) -> None:
    """The sum over devices of N_i (2 F + 1) + w, four bytes each; F = 4 * 14 * 14 and w = 40 + 148."""
    made = federation("split-learning", counts)
    made.rounds(2)
    ledger = made.fleet.settle()
    samples, f, w = np.sum(counts, axis=1), 4 * 14 * 14, 4 * 9 + 4 + 4 * 4 * 9 + 4
    assert ledger.bytes_by_kind == {
        "smashed data": 2 * 4 * f * samples.sum(),
        "gradients": 2 * 4 * f * samples.sum(),
        "labels": 2 * 4 * samples.sum(),
        "hand-over": 2 * 4 * w * len(counts),
    }
    per_round = sum(n * (2 * f + 1) + w for n in samples.tolist())
    assert ledger.bytes_up + ledger.bytes_down + ledger.bytes_across == 2 * 4 * per_round
    assert ledger.bytes_across == 2 * 4 * w * (len(counts) - 1)


def test_by_way_of_the_server_f_a_crosses_twice() -> None:
    made = federation("split-learning", hand_over="server")
    made.rounds(1)
    ledger = made.fleet.settle()
    assert ledger.bytes_by_kind["hand-over"] == 2 * 3 * 4 * 188
    assert ledger.bytes_across == 0


def test_int8_sends_a_byte_for_each_smashed_value_and_gradient() -> None:
    made = federation("split-learning", [[4, 4, 4]], wire="int8")
    made.rounds(1)
    kinds = made.fleet.settle().bytes_by_kind
    assert kinds["smashed data"] == kinds["gradients"] == 12 * 4 * 14 * 14 + 3 * 4  # a scale for each of three batches
    assert kinds["labels"] == 12 * 4


def test_vgg16s_first_two_convolutions_are_the_papers() -> None:
    """Section V-C: 3.78 * 10^4 parameters, 64x14x14 smashed values and 29.8 million operations for an image."""
    f_a, f_b = cut(classifier("vgg16").build(1, 64, 10), 2)
    assert sum(parameter.numel() for parameter in f_a.parameters()) == 37_824
    assert sum(isinstance(layer, nn.Conv2d) for layer in f_b) == 11
    with torch.no_grad():
        smashed = f_a(torch.zeros(2, 1, 28, 28))
        assert smashed.shape == (2, 64, 14, 14)
        assert f_b(smashed).shape == (2, 10)
    made = federation("split-learning", [[2, 2, 2]], model="vgg16")
    assert made.server.workspace.smashed_shape == (4, 14, 14)


def test_operations_are_those_of_the_unsplit_network() -> None:
    """Forward and backward of 12 images, without the gradient of the images: torch's count of the whole network."""
    from torch.utils.flop_counter import FlopCounterMode

    made = federation("split-learning", [[4, 4, 4]])
    made.rounds(1)
    ledger = made.fleet.settle()
    with FlopCounterMode(display=False) as counter:
        cross_entropy(plain()[0](torch.zeros(4, 1, 28, 28)), torch.zeros(4, dtype=torch.long)).backward()
    found = sum(event.flops for event in ledger.events if isinstance(event, Call | Work))
    assert found == 3 * counter.get_total_flops()


@pytest.mark.parametrize("layers", [6, 100])
def test_a_cut_outside_the_network_is_one_line(layers: int) -> None:
    with pytest.raises(UserError) as refused:
        federation("split-learning", cut=layers)
    assert str(refused.value) == (
        f"method.cut = {layers}: is outside the network, which has 6 layers with weights; it must be 1 to 5"
    )


def test_a_gan_is_no_classifier() -> None:
    with pytest.raises(UserError, match=r"model.name = 'dcgan28': is no classifier; it must be one of vgg16, cnn5, or"):
        federation("split-learning", model="dcgan28")
