"""IoTSL's four steps: what each does, moves and remembers; its pairing by hand; its lines for what cannot be."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.engine.session import LocalSession
from rayfed.errors import UserError
from rayfed.fleet.host import PrivateError
from rayfed.methods.iotsl import METHOD
from rayfed.methods.iotsl.device import Device, Trained, codec
from rayfed.methods.iotsl.events import BudgetSpent, Paired, WithoutGenerator
from rayfed.methods.iotsl.pairing import lacking, paired
from rayfed.methods.iotsl.settings import IotslState
from rayfed.methods.state import State
from rayfed.models.conditional import ConditionalGAN
from rayfed.privacy.accountant import epsilon
from rayfed.seeding import generator, torch_seed
from rayfed.store import Store
from tests.methods.federation import SEED, Federation

TWO_OF_FOUR = [[6, 6, 0, 0], [0, 0, 6, 6], [6, 0, 0, 6]]
METHOD_SETTINGS: dict[str, Any] = {
    "name": "iotsl",
    "batch": 4,
    "generator_rounds": 2,
    "generator_steps": 2,
    "generator_batch": 4,
    "generator_width": 4,
    "pretraining_rounds": 1,
}


def federation(counts: Any = TWO_OF_FOUR, device: Any = None, **more: Any) -> Federation:
    method = METHOD_SETTINGS | more.pop("method", {})
    model = {"name": "cnn5", "width": 4, "lr": 1e-3}
    return Federation(method, counts, device, model=model, rounds=more.pop("rounds", 6), **more)


def test_the_steps_follow_one_another_and_move_what_they_should() -> None:
    made = federation()
    state: Any = made.server.init()
    kinds, states = [], []
    for _ in range(5):
        state, _ = made.server.round(state, made.fleet)
        kinds.append(dict(made.fleet.settle().bytes_by_kind))
        states.append(state)
    generator = ConditionalGAN(4, 4).sizes["generator"]
    assert kinds[0] == {}
    assert kinds[1] == {"generators": 3 * 4 * sum(generator), "labels": 3 * 4 * 4}
    assert kinds[2] == {}
    assert kinds[3] == {"generators": 4 * 4 * sum(generator)}  # two for the third device, which two others pair with
    assert set(kinds[4]) == {"smashed data", "gradients", "labels", "hand-over"}
    images = 36 + 12 + 12 + 12  # theirs, and two classes of six for each
    assert kinds[4]["labels"] == 4 * images
    assert kinds[4]["smashed data"] == 4 * 784 * images
    assert states[1].log == TWO_OF_FOUR
    assert states[3].imputed == {"0": 12, "1": 12, "2": 12}
    for before, after in pairwise(states[1:4]):
        same = np.array_equal(before.models["server_part"], after.models["server_part"])
        assert same == (after.round == 4)  # pretraining changes the network, imputation does not


def test_the_privacy_budget_is_told_and_kept() -> None:
    made = federation(method={"privacy": {"sigma": 40.0}})
    state: Any = made.server.init()
    expected = []
    for _ in range(2):
        state, reports = made.server.round(state, made.fleet)
        expected.append(epsilon([[40 / (2 * np.sqrt(4)), 1.0, 2 * state.round]], 1e-5))
        [told] = [event for event in state.events if isinstance(event, BudgetSpent)]
        assert told.epsilons == pytest.approx([expected[-1]] * 3)
        assert [report.metrics["epsilon"] for report in reports] == pytest.approx([expected[-1]] * 3)
    assert 0 < expected[0] < expected[1]
    assert state.spent == {str(k): [[10.0, 1.0, 4]] for k in range(3)}
    again = IotslState.restored(state.round, state.arrays, state.facts())
    assert again.spent == state.spent
    assert METHOD.state is IotslState


def test_training_ends_before_the_budget_is_passed() -> None:
    most = epsilon([[10.0, 1.0, 3]], 1e-5)
    made = federation(method={"privacy": {"sigma": 40.0, "epsilon": most * 1.0001}})
    state, reports = made.rounds(2)
    assert state.spent == {str(k): [[10.0, 1.0, 3]] for k in range(3)}
    assert [report.examples for report in reports] == [1 * 5 * 4] * 3  # one step of two in the second round


def test_without_noise_there_is_no_epsilon() -> None:
    made = federation(method={"privacy": {"sigma": 0, "clip": None}})
    state, reports = made.rounds(2)
    assert (state.spent, state.events) == ({}, ())
    assert "epsilon" not in reports[0].metrics


def session() -> LocalSession:
    counts = {"devices": {"count": 4}, "data": {"partition": "fegan", "max_class": 9, "max_samples": 12}}
    method = METHOD_SETTINGS | {"pretraining_rounds": 2, "iterations": 2, "privacy": {"sigma": 40.0}}
    tree = {"seed": 6, "method": method, "model": {"name": "cnn5", "width": 4}, "evaluation": {"every": 0}}
    config = parse(tree | counts | {"rounds": 7})
    return LocalSession(config, prepare(config, 28))


@cache
def unbroken() -> list[Checkpoint]:
    """Two rounds of generators, two of pretraining, one of imputation, two of fine-tuning."""
    made = session()
    made.start(None)
    return [made.round() for _ in range(7)]


@pytest.mark.parametrize("after", range(1, 7))
def test_a_run_killed_in_any_step_goes_on_to_the_same_bits(after: int, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    store.create_run("run", {}, {})
    before = session()
    store.commit("run", before.start(None).commit(), keep=2)
    for _ in range(after):
        store.commit("run", before.round().commit(), keep=2)
    again = session()
    again.start(checkpoint_of(store.latest("run"), METHOD))
    found = [again.round() for _ in range(7 - after)]
    for name, vector in unbroken()[-1].state.arrays.items():
        np.testing.assert_array_equal(vector, found[-1].state.arrays[name], err_msg=name)
    assert found[-1].commit().facts == unbroken()[-1].commit().facts
    assert [each.events for each in found] == [each.events for each in unbroken()[after:]]


class Leaking(Device):
    """Its reply has the critic, however it is packed."""

    packed = "float32"

    def train_generator(self, task: tuple[int, bool], round: int) -> Trained:
        from rayfed.fleet.codec import Codec

        reply = super().train_generator(task, round)
        critic = Codec(self.packed, {"critic": self._gan().sizes["critic"]}).encode({"critic": self.state["critic"]})
        return Trained(reply.client, reply.metrics, critic)


@pytest.mark.parametrize("packed", ["float32", "float16", "int8"])
def test_the_fleet_refuses_to_send_a_critic(packed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leaking, "packed", packed)
    made = federation(device=Leaking)
    with pytest.raises(PrivateError, match="train_generator of device 0 would send 'critic', which is private to it"):
        made.rounds(1)


def test_pairing_by_hand() -> None:
    log = np.array([[8, 8, 0, 0], [0, 0, 4, 4], [5, 5, 5, 0], [6, 6, 6, 6], [9, 9, 9, 2]])
    everyone = np.ones(4, bool)
    assert lacking(log[0], everyone, 0.5) == {2: 8, 3: 8}
    assert lacking(log[3], everyone, 0.5) == {}
    assert lacking(log[4], everyone, 0.5) == {3: 7 - 2}  # 29 / 4 = 7.25, of which 2 are less than half
    assert lacking(log[4], everyone, 0.0) == {}
    assert paired(0, log, 0.5) == {1: {2: 8, 3: 8}}  # the first that covers both, though device 3 does too
    assert paired(1, log, 0.5) == {0: {0: 4, 1: 4}}
    assert paired(2, log, 0.5) == {1: {3: 5}}
    assert paired(3, log, 0.5) == {}
    assert paired(0, log[:3][:, :4] * [1, 1, 1, 0], 0.5) == {1: {2: 8}}  # a class that nobody has is none


def test_several_generators_where_one_does_not_cover() -> None:
    log = np.array([[6, 6, 0, 0, 0], [0, 0, 6, 6, 0], [0, 0, 0, 6, 6]])
    assert paired(0, log, 0.5) == {1: {2: 6, 3: 6}, 2: {4: 6}}


def test_a_class_that_is_scarce_everywhere_is_drawn_all_the_same() -> None:
    """Device 1 has 10 of class 2, fewer than half of its mean, 70, but nobody has more."""
    log = np.array([[100, 100, 0], [100, 100, 10]])
    assert paired(0, log, 0.5) == {1: {2: 100}}
    assert paired(1, log, 0.5) == {}
    both = np.array([[100, 0, 0], [100, 100, 10], [0, 100, 0]])
    assert paired(0, both, 0.5) == {1: {1: 100, 2: 100}}


def test_what_was_paired_is_told() -> None:
    made = federation()
    state, _ = made.rounds(4)
    assert [event.sentence() for event in state.events if isinstance(event, Paired)] == [
        "device 0 lacks classes 2, 3: 12 samples are drawn by the generator of device 1",
        "device 1 lacks classes 0, 1: 12 samples are drawn by the generator of device 0",
        "device 2 lacks classes 1, 2: 12 samples are drawn by the generators of devices 0, 1",
    ]


def test_imputed_images_are_the_partners_generators() -> None:
    """What device 0 trains on beside its own is what generator 1 draws of the classes 2 and 3."""
    made = federation()
    state: Any = made.rounds(4)[0]
    kept = made.fleet.changed()[0]
    gan = ConditionalGAN(4, 4)
    gan.load_models({"generator": state.models["generator_1"]})
    labels = np.repeat([2, 3], 6)
    np.testing.assert_array_equal(kept["imputed_labels"], labels)
    np.testing.assert_array_equal(kept["imputed_images"], gan.generate(labels, torch_seed(SEED, 4, 0, "impute 0")))


def test_a_generator_learns_through_the_sanitised_gradient() -> None:
    """Of one device, beside the same steps by hand with the clipping and noise that the settings say."""
    settings = {"generator_rounds": 1, "generator_steps": 2, "privacy": {"sigma": 40.0, "clip": 0.5}}
    made = federation([[6, 6, 0, 0]], method=settings)
    state = made.rounds(1)[0]
    gan = ConditionalGAN(4, 4)
    gan.initialise(torch_seed(SEED, 0, 0, "generator"))
    draws, noise = (torch.Generator().manual_seed(torch_seed(SEED, 1, 0, name)) for name in ("generator", "noise"))
    order, chosen = generator(SEED, 1, 0, "batches"), np.empty(0, np.int64)
    while len(chosen) < 2 * 5 * 4:
        chosen = np.concatenate((chosen, order.permutation(made.parts[0])))
    labels = generator(SEED, 1, 0, "labels")

    def clean(gradient: torch.Tensor) -> torch.Tensor:
        bound = 0.5 / 4  # C of a mean over a batch of 4
        norms = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        clipped = gradient * torch.where(norms > bound, bound / norms, torch.ones_like(norms))
        return clipped + 40.0 * bound * torch.randn(gradient.shape, generator=noise)

    for step in range(2):
        batches = [chosen[4 * at : 4 * (at + 1)] for at in range(5 * step, 5 * (step + 1))]
        drawn = labels.choice(4, 4, p=[0.5, 0.5, 0, 0])
        gan.step([(made.images[each], made.labels[each]) for each in batches], drawn, draws, clean)
    np.testing.assert_allclose(state.models["generator_0"], gan.models()["generator"], rtol=1e-5, atol=1e-7)


class Overflowing(Device):
    """Device 1's generator is not finite, or everybody's."""

    everybody = False

    def train_generator(self, task: tuple[int, bool], round: int) -> Trained:
        reply, gan = super().train_generator(task, round), self._gan()
        if self.context.device != 1 and not self.everybody:
            return reply
        infinite = np.full(sum(gan.sizes["generator"]), np.inf, np.float32)
        return replace(reply, generator=codec(gan, "float32").encode({"generator": infinite}))


def test_who_sends_no_generator_is_told_charged_and_left_out() -> None:
    method = {"generator_rounds": 1, "privacy": {"sigma": 40.0}}
    made = federation(device=Overflowing, method=method, rounds=4)
    state, reports = made.rounds(1)
    assert [report.client for report in reports] == [0, 2]
    assert set(state.models) == {"device_part", "server_part", "generator_0", "generator_2"}
    assert state.log == [TWO_OF_FOUR[0], [0, 0, 0, 0], TWO_OF_FOUR[2]]
    assert set(state.spent) == {"0", "1", "2"}
    assert [event.devices for event in state.events if isinstance(event, WithoutGenerator)] == [(1,)]
    assert made.fleet.settle().rejected == {1}


def test_without_any_generator_there_is_nothing_to_pretrain_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Overflowing, "everybody", True)
    made = federation(device=Overflowing, method={"generator_rounds": 1}, rounds=4)
    with pytest.raises(UserError, match="round 2: no device's generator has come, so there is nothing to pretrain on"):
        made.rounds(2)


def test_fine_tuning_as_splitfed_is_splitfeds_round() -> None:
    """From the pretrained halves, to the same bits; it needs no way from device to device."""
    made = federation(method={"fine_tuning": "splitfed", "impute": False})
    pretrained: Any = made.rounds(3)[0]
    tuned, reports = made.server.round(pretrained, made.fleet)
    plain = Federation({"name": "splitfed", "batch": 4}, TWO_OF_FOUR, model={"name": "cnn5", "width": 4, "lr": 1e-3})
    halves = {name: pretrained.models[name] for name in ("device_part", "server_part")}
    expected, theirs = plain.server.round(State(3, halves, sampler=pretrained.sampler), plain.fleet)
    for name in halves:
        np.testing.assert_array_equal(tuned.models[name], expected.models[name])
    assert reports == theirs
    assert not made.config.method.sends_to_peers
    assert federation().config.method.sends_to_peers


def test_splitfed_weighs_imputed_samples_too() -> None:
    made = federation([[6, 6, 0, 0], [0, 0, 4, 4], [6, 0, 0, 6]], method={"fine_tuning": "splitfed"})
    state = made.rounds(5)[0]
    kept = made.fleet.changed()
    each = [kept[device]["device_part"] for device in range(3)]
    expected = np.average(each, axis=0, weights=[12 + 12, 8 + 8, 12 + 12])
    np.testing.assert_allclose(state.models["device_part"], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 4}, "rounds = 4: 4 of them come before fine-tuning"),
        (
            {"method": {"privacy": {"sigma": -1}}},
            "method.privacy.sigma = -1: must be greater",
        ),
        ({"method": {"privacy": {"sigma": 1, "clip": None}}}, "method.privacy.sigma = 1.0: the noise is sigma * clip"),
        ({"method": {"privacy": {"sigma": 0, "epsilon": 1}}}, "method.privacy.epsilon = 1.0: without noise no epsilon"),
        ({"method": {"privacy": {"sigma": 1e300}}}, "method.privacy.sigma = 1e+300: must be less than or equal to"),
        (
            {"method": {"fine_tuning": "splitfed", "hand_over": "server"}},
            "method.hand_over = 'server': is for devices in turn",
        ),
        (
            {"method": {"generator_rounds": 4}, "rounds": 9, "stop": {"patience": 2}, "evaluation": {"every": 2}},
            "stop.patience = 2: the classifier does not change in the first 4 rounds, which train generators; take at "
            "least 3",
        ),
        ({"init_from": "iotsl-123"}, "init_from = 'iotsl-123': what that run has spent"),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        federation(**changes)
    assert message in str(refused.value)


def test_what_only_the_data_refutes_is_one_line() -> None:
    from rayfed.data.population import Population

    def preflight(counts: Any, **method: Any) -> list[str]:
        config, found = federation(method=method).config, np.asarray(counts)
        return METHOD.preflight(config, Population(1, found, found.sum(axis=0), found.sum(axis=0) + 1))

    with pytest.raises(UserError, match=r"data.partition = 'fegan': no device holds class 3, so no generator can draw"):
        preflight([[6, 6, 0, 0], [0, 6, 6, 0], [1, 1, 1, 0]])
    strong = {"sigma": 1000.0, "delta": 1e-3}
    assert preflight([[6, 6, 0, 0], [0, 6, 6, 0], [1, 1, 1, 0]], impute=False, privacy=strong) == []
    with pytest.raises(UserError, match=r"method.privacy.epsilon = 0.001: the next step brings it to"):
        preflight(TWO_OF_FOUR, privacy={"sigma": 10.0, "epsilon": 0.001})
    with pytest.raises(UserError, match=r"device 1 holds no samples"):
        preflight([[6, 6, 6, 6], [0, 0, 0, 0], [1, 1, 1, 1]])
    [told] = preflight(TWO_OF_FOUR, privacy={"sigma": 0})
    assert "no epsilon holds" in told
    spent = epsilon([[1.07 / (2 * np.sqrt(4)), 1.0, 4]], 1e-5)  # two rounds of two steps
    [told] = preflight(TWO_OF_FOUR)
    assert told == (
        f"method.privacy.sigma = 1.07: 4 steps of a generator spend epsilon {spent:.4g} at delta 1e-05; above about 10 "
        "it promises next to nothing"
    )
    [told] = preflight(TWO_OF_FOUR, privacy={"sigma": 1000.0, "delta": 0.1})
    assert told == "method.privacy.delta = 0.1: a device holds 12 images; delta should be well below 1/12"
    colours = Population(3, np.asarray(TWO_OF_FOUR), np.sum(TWO_OF_FOUR, axis=0), np.sum(TWO_OF_FOUR, axis=0))
    with pytest.raises(UserError, match=r"iotsl's generators draw grey images of 28x28; this data has 3 channels"):
        METHOD.preflight(federation().config, colours)
