"""MD-GAN, F2U and F2A against plain PyTorch in one process, and against what the papers say moves where."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rayfed.fleet.codec import Packed
from rayfed.methods.md_gan.algorithm import Device, derangement, swap
from rayfed.methods.md_gan.layout import D, Feedback, G
from rayfed.seeding import SERVER
from tests.methods.federation import (
    SIDE,
    Federation,
    adam,
    assert_near,
    discriminator_step,
    gradient,
    networks,
    noise,
    real_loss,
    seed,
    vector,
)

B = 4
COUNTS = [[3, 6], [9, 0], [1, 4], [5, 5], [2, 7]]
NO_LOSSES = {"loss_g": 0.0, "loss_d": 0.0}


def md_gan(**method: Any) -> dict[str, Any]:
    return {"name": "md-gan", "batch": B, "iterations": 1, "swap_epochs": 0} | method


def first_fakes(generator: nn.Module, count: int) -> list[Tensor]:
    """The server's batches of the first iteration."""
    seed(1, SERVER, "noise 0")
    return [generator(noise(B)) for _ in range(count)]


class Worker:
    """A device's first iteration in plain PyTorch: L steps of D on X_d, then D on X_g."""

    def __init__(self, federation: Federation, number: int, fakes_d: Tensor, steps: int) -> None:
        self.discriminator = networks(number)[1]
        optimizer = adam(self.discriminator)
        reals = islice(federation.reals(number, 1, B), steps)
        seed(1, number, "train 0")
        self.losses = [discriminator_step(self.discriminator, optimizer, real, fakes_d) for real in reals]
        self.dropout = torch.get_rng_state()

    def scores(self, fakes_g: Tensor) -> Tensor:
        """D(X_g) [b, 1], with its graph."""
        torch.set_rng_state(self.dropout)
        return self.discriminator(fakes_g)


def workers_and_fakes(federation: Federation, k: int, steps: int) -> tuple[nn.Module, list[Worker], list[Tensor]]:
    """The generator, the devices and each one's X_g after the first iteration, by the paper's rule."""
    plain, _ = networks(SERVER)
    fakes = first_fakes(plain, max(k, 2))
    devices = range(len(federation.counts))
    x_d = [fakes[1] if k == 1 else fakes[(n + 1) % k] for n in devices]
    return plain, [Worker(federation, n, x_d[n], steps) for n in devices], [fakes[n % k] for n in devices]


# (a) One iteration is one step on the mean loss.


@pytest.mark.parametrize(("k", "steps"), [(1, 1), (1, 3), (2, 1), (3, 2), (5, 1)])
def test_the_generators_gradient_is_that_of_the_mean_loss_over_discriminators_in_one_place(k: int, steps: int) -> None:
    federation = Federation(md_gan(batches=k, d_steps=steps), COUNTS)
    _, reports = federation.rounds()
    plain, workers, x_g = workers_and_fakes(federation, k, steps)
    losses = [real_loss(worker.scores(images)) for worker, images in zip(workers, x_g, strict=True)]
    torch.stack(losses).mean().backward()

    assert_near(federation.generator_gradient(), gradient(plain))
    states = federation.fleet.changed()
    for n, (worker, report) in enumerate(zip(workers, reports, strict=True)):
        assert_near(states[n][D], vector(worker.discriminator))
        assert report.examples == steps * B
        assert report.metrics["loss_d"] == pytest.approx(np.mean(worker.losses), rel=1e-5)
        assert report.metrics["loss_g"] == pytest.approx(losses[n].item(), rel=1e-5)


def test_a_device_with_fewer_images_than_the_batch_answers_all_of_the_fakes() -> None:
    """Devices with 3 and 5 images and batches of 4: D sees 3 of the first one's, its feedback is about all 4 fakes."""
    federation = Federation(md_gan(batches=2), [[1, 2], [5, 0]])
    _, reports = federation.rounds()
    assert [report.examples for report in reports] == [3, 4]
    ledger = federation.fleet.settle()
    assert {call.nbytes for call in ledger.calls} == {4 * SIDE * SIDE * 4}


# (b) One device is a centralised GAN with a draw of noise for each network.


@pytest.mark.parametrize("loss", [None, "mse"])
def test_one_device_is_a_centralised_loop_in_plain_pytorch(loss: str | None) -> None:
    model = {"name": "dcgan28", "width": 4} | ({"loss": loss} if loss else {})
    federation = Federation(md_gan(batches=1, iterations=3), [[6, 5]], model=model)
    state, _ = federation.rounds(2)

    plain, _ = networks(SERVER)
    _, discriminator = networks(0)
    adam_g, adam_d = adam(plain), adam(discriminator)
    criterion = torch.nn.MSELoss() if loss else torch.nn.BCEWithLogitsLoss()
    one, zero = torch.ones(B, 1), torch.zeros(B, 1)
    for round in (1, 2):
        for iteration, real in enumerate(islice(federation.reals(0, round, B), 3)):
            seed(round, SERVER, f"noise {iteration}")
            for_g, for_d = plain(noise(B)), plain(noise(B)).detach()
            seed(round, 0, f"train {iteration}")
            adam_d.zero_grad()
            loss_d = (criterion(discriminator(real), one) + criterion(discriminator(for_d), zero)) / 2
            loss_d.backward()
            adam_d.step()
            adam_g.zero_grad()
            criterion(discriminator(for_g), one).backward()
            adam_g.step()

    np.testing.assert_array_equal(state.arrays[G], vector(plain))
    np.testing.assert_array_equal(federation.fleet.changed()[0][D], vector(discriminator))


# (c) What crosses the links.


@pytest.mark.parametrize(("wire", "value", "scale"), [("float32", 4, 0), ("float16", 2, 0), ("int8", 1, 4)])
@pytest.mark.parametrize("k", [1, 2])
def test_bytes_by_hand(wire: str, value: int, scale: int, k: int) -> None:
    """Per iteration and device two batches of b images down, one of gradients up: 2bd and bd values. At a swap |phi|.

    int8 has a float32 scale for each payload of images, and for each of the discriminator's tensors.
    """
    federation = Federation(md_gan(batches=k, iterations=3, swap_epochs=1), [[2, 2]] * 3, wire=wire)
    federation.rounds()
    ledger = federation.fleet.settle()
    batch = B * SIDE * SIDE * value + scale
    phi = list(networks(0)[1].state_dict().values())
    # Local epochs are one iteration long (4 samples, batches of 4): 3 iterations, 3 swaps.
    assert ledger.bytes_down == 3 * 3 * 2 * batch
    assert ledger.bytes_up == 3 * 3 * batch
    assert ledger.bytes_across == 3 * 3 * (sum(tensor.numel() for tensor in phi) * value + len(phi) * scale)
    assert ledger.bytes_by_device() == dict.fromkeys(range(3), 3 * 3 * batch + 2 * ledger.bytes_across // 3)


def test_scores_are_sent_only_where_the_rule_asks_for_them() -> None:
    """F2U and F2A: b scores of 4 bytes with each reply."""
    for name in ("f2u", "f2a"):
        federation = Federation({"name": name, "batch": B, "iterations": 2}, COUNTS)
        federation.rounds()
        ledger = federation.fleet.settle()
        assert ledger.bytes_up == 2 * 5 * (B * SIDE * SIDE * 4 + B * 4)
        assert ledger.bytes_down == 2 * 5 * 2 * B * SIDE * SIDE * 4
        assert ledger.bytes_across == 0


@pytest.mark.parametrize(("wire", "value", "scale"), [("float32", 4, 0), ("int8", 1, 4)])
def test_bytes_by_kind_by_hand(wire: str, value: int, scale: int) -> None:
    """Per iteration and device two batches of fakes and one of feedback; a model at each of the 3 swaps."""
    federation = Federation(md_gan(batches=2, iterations=3, swap_epochs=1), [[2, 2]] * 3, wire=wire)
    federation.rounds()
    batch = B * SIDE * SIDE * value + scale
    phi = list(networks(0)[1].state_dict().values())
    model = sum(tensor.numel() for tensor in phi) * value + len(phi) * scale
    assert federation.fleet.settle().bytes_by_kind == Counter(
        fakes=3 * 3 * 2 * batch, feedback=3 * 3 * batch, model=3 * 3 * model
    )


def test_without_a_swap_no_model_moves_and_scores_are_of_no_codecs_kind() -> None:
    for name, other in (("md-gan", 0), ("f2u", 5 * B * 4)):
        federation = Federation({"name": name, "batch": B, "iterations": 1}, COUNTS)
        federation.rounds()
        kinds = federation.fleet.settle().bytes_by_kind
        images = B * SIDE * SIDE * 4
        assert kinds["model"] == 0
        assert (kinds["fakes"], kinds["feedback"], kinds["other"]) == (5 * 2 * images, 5 * images, other)
        assert kinds.total() == 5 * 3 * images + other


# (d) Which batch each device got.


class Watched(Device):
    """Keeps what it was sent."""

    sent: dict[int, tuple[np.ndarray, np.ndarray]]

    def feedback(self, fakes_d: Packed, fakes_g: Packed, *args: Any) -> Feedback:
        self.sent[self.context.device] = fakes_d.data, fakes_g.data
        return super().feedback(fakes_d, fakes_g, *args)


@pytest.mark.parametrize("k", range(1, 7))
def test_device_n_trains_on_batch_n_plus_1_mod_k_and_answers_batch_n_mod_k(k: int) -> None:
    """With k = 1 the two are different draws all the same."""
    Watched.sent = {}
    federation = Federation(md_gan(batches=k), [[2, 2]] * 6, Watched)
    federation.rounds()
    plain, _ = networks(SERVER)
    drawn = [images.detach().flatten().numpy() for images in first_fakes(plain, max(k, 2))]
    assert min(np.abs(a - b).max() for i, a in enumerate(drawn) for b in drawn[:i]) > 1e-3
    for n in range(6):
        x_d, x_g = Watched.sent[n]
        assert (x_d != x_g).any()
        np.testing.assert_allclose(x_g, drawn[n % k], atol=1e-6)
        np.testing.assert_allclose(x_d, drawn[(n + 1) % k if k > 1 else 1], atol=1e-6)


# (e) Swaps.


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 20), st.integers(0, 2**32 - 1))
def test_a_derangement_moves_everyone_and_is_keyed(count: int, key: int) -> None:
    order = derangement(count, np.random.default_rng(key))
    assert sorted(order) == list(range(count))
    assert all(order[i] != i for i in range(count))
    assert order.tolist() == derangement(count, np.random.default_rng(key)).tolist()


def test_derangements_are_uniform() -> None:
    """Of 4 there are 9, each drawn 1 time in 9: 200 of 1800, standard deviation sqrt(1800 * 8) / 9 = 13."""
    rng = np.random.default_rng(0)
    _, times = np.unique([derangement(4, rng) for _ in range(1800)], axis=0, return_counts=True)
    assert len(times) == 9
    assert np.abs(times - 200).max() < 65


def swaps_after(**method: Any) -> list[int]:
    """The iterations, counted from 1 over all rounds, after which discriminators are swapped; 4 rounds."""
    federation = Federation(md_gan(iterations=3, **method), [[8, 2], [4, 4], [6, 6]], Idle)
    state, names = federation.server.init(), []
    for _ in range(4):
        state, _ = federation.server.round(state, federation.fleet)
        names += [call.method for call in federation.fleet.settle().calls]
    iterations, found = 0, []
    for name in names[::3]:  # three devices: every kind of call comes in threes
        iterations += name == "feedback"
        found += [iterations] if name == "give" else []
    return found


class Idle(Device):
    """Answers at once."""

    def feedback(self, fakes_d: Packed, fakes_g: Packed, *args: Any) -> Feedback:
        return Feedback(self.context.device, fakes_g, np.empty(0, np.float32), NO_LOSSES)


@pytest.mark.parametrize(
    ("batch", "steps", "epochs", "expected"),
    [
        # 10, 8 and 12 images: 10 on the mean.
        (5, 1, 1, [2, 4, 6, 8, 10, 12]),  # an epoch is 2 iterations
        (5, 1, 2, [4, 8, 12]),
        (5, 1, 2.5, [5, 10]),  # over the rounds' ends, which are at 3, 6, 9, 12
        (2, 1, 1, [5, 10]),
        (5, 2, 2, [2, 4, 6, 8, 10, 12]),  # two steps of D an iteration, each on 5 images: an epoch an iteration
        (5, 1, 0.1, list(range(1, 13))),
        (5, 1, 0, []),
        (10, 1, 20, []),
    ],
)
def test_swaps_are_due_after_so_many_local_epochs(batch: int, steps: int, epochs: float, expected: list[int]) -> None:
    assert swaps_after(batch=batch, d_steps=steps, swap_epochs=epochs) == expected


def moves_between_devices(federation: Federation) -> list[tuple[int, int]]:
    """(source, destination) of what went between devices since the fleet was last settled."""
    ends = [(each.source, each.destination) for each in federation.fleet.settle().transfers]
    return [pair for pair in ends if SERVER not in pair]


def test_discriminators_move_and_moments_stay() -> None:
    """A round that ends with its only swap against the same round without one."""
    method = md_gan(iterations=2, batches=2)
    still, moved = (Federation(method | {"swap_epochs": epochs}, [[4, 4]] * 5) for epochs in (0, 1))
    (before, _), (after, _) = still.rounds(), moved.rounds()
    np.testing.assert_array_equal(before.arrays[G], after.arrays[G])
    owned, owned_after = still.fleet.changed(), moved.fleet.changed()
    came_from = []
    for n in range(5):
        same = [m for m in range(5) if (owned_after[n][D] == owned[m][D]).all()]
        assert len(same) == 1
        came_from += same
        for name in owned[n].keys() - {D}:
            np.testing.assert_array_equal(owned_after[n][name], owned[n][name])
    assert sorted(came_from) == list(range(5))
    assert all(m != n for n, m in enumerate(came_from))
    assert {target: source for source, target in moves_between_devices(moved)} == dict(enumerate(came_from))


def test_swaps_are_the_same_on_every_run_and_differ_from_swap_to_swap() -> None:
    def moves() -> list[tuple[int, int]]:
        federation = Federation(md_gan(iterations=4, swap_epochs=1, batch=8), [[4, 4]] * 6, Idle)
        federation.rounds()
        return moves_between_devices(federation)

    first = moves()
    assert first == moves()
    assert len({tuple(sorted(first[i : i + 6])) for i in range(0, 24, 6)}) > 1


def test_a_device_that_has_never_trained_can_take_and_then_train() -> None:
    """Its first replies were too late: it has no moments yet when another device's discriminator comes."""
    federation = Federation(md_gan(), [[4, 4]] * 2)
    state, _ = federation.rounds()
    trained = federation.fleet.changed()[0][D]
    federation.fleet.restore({1: {}})
    swap(federation.fleet, [0, 1], np.random.default_rng(0))
    np.testing.assert_array_equal(federation.fleet.changed()[1][D], trained)
    _, reports = federation.server.round(state, federation.fleet)
    assert [report.client for report in reports] == [0, 1]
    assert federation.fleet.changed()[1]["discriminator.step"].max() == 1


@pytest.mark.parametrize("group", [[], [2]])
def test_with_nobody_to_swap_with_there_is_no_swap(group: list[int]) -> None:
    """Dropouts can leave a round with one device."""
    federation = Federation(md_gan(), [[4, 4]] * 3)
    swap(federation.fleet, group, np.random.default_rng(0))
    assert federation.fleet.settle().calls == []


# (f) F2U and F2A.


def forgiver(name: str, **method: Any) -> Federation:
    return Federation({"name": name, "batch": B, "iterations": 1, **method}, COUNTS)


def replies_of(scores: Any) -> list[Feedback]:
    none = Packed(np.empty(0, np.float32), np.empty(0, np.float32))
    return [Feedback(n, none, np.array(row, np.float32), NO_LOSSES) for n, row in enumerate(scores)]


def test_f2u_picks_for_each_image_the_device_that_finds_it_most_real() -> None:
    weights = forgiver("f2u").server.weights(replies_of([[3, -1, 0, 7], [2, -5, 0.5, 7], [-9, -0.5, 0.2, 6]]))
    assert weights.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]


def test_f2a_weights_by_hand() -> None:
    """Scores (0, log 3) and lambda 1: (1/4, 3/4); lambda 2: (1/10, 9/10)."""
    scores = [[0.0], [np.log(3.0)]]
    for forgiveness, expected in ((1.0, [[0.25], [0.75]]), (2.0, [[0.1], [0.9]])):
        weights = forgiver("f2a", forgiveness=forgiveness).server.weights(replies_of(scores))
        np.testing.assert_allclose(weights, expected, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_f2a_lies_between_the_mean_and_f2u(key: int, devices: int) -> None:
    scores = np.random.default_rng(key).normal(scale=30, size=(devices, B))
    replies = replies_of(scores)
    mean = np.full((devices, B), 1 / devices)
    at = {f: forgiver_weights(f, replies) for f in (0.0, 1e-6, 1.0, 1e6)}
    for weights in at.values():
        np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-6)
    assert at[0.0].tolist() == mean.astype(np.float32).tolist()
    np.testing.assert_allclose(at[1e-6], mean, atol=1e-4)
    np.testing.assert_allclose(at[1e6], np.arange(devices)[:, None] == scores.argmax(axis=0), atol=1e-6)


SERVERS: dict[float, Federation] = {}


def forgiver_weights(forgiveness: float, replies: list[Feedback]) -> np.ndarray:
    if forgiveness not in SERVERS:
        SERVERS[forgiveness] = forgiver("f2a", forgiveness=forgiveness)
    return SERVERS[forgiveness].server.weights(replies)


@pytest.mark.parametrize("name", ["f2u", "f2a"])
def test_the_generator_follows_the_weighted_feedback_image_by_image(name: str) -> None:
    """The same gradient as autograd's of the per-image losses, weighted by hand from D(x) in one process."""
    federation = forgiver(name, **({"forgiveness": 40.0} if name == "f2a" else {}))
    federation.rounds()
    plain, workers, x_g = workers_and_fakes(federation, 1, 1)
    scores = torch.cat([worker.scores(images) for worker, images in zip(workers, x_g, strict=True)], 1)
    per_image = torch.nn.functional.softplus(-scores)  # -log sigmoid(D(x)), [b, N]
    if name == "f2u":
        loss = per_image.gather(1, scores.argmax(dim=1, keepdim=True)).mean()
    else:
        weights = torch.softmax(40.0 * scores.detach(), dim=1)
        assert weights.min() > 0.01 or weights.max() < 0.99
        loss = (weights * per_image).sum(dim=1).mean()
    loss.backward()
    assert_near(federation.generator_gradient(), gradient(plain))


def test_f2a_without_forgiveness_is_md_gan_with_one_batch() -> None:
    f2a = Federation({"name": "f2a", "batch": B, "iterations": 2, "forgiveness": 0.0}, COUNTS)
    plain = Federation(md_gan(batches=1, iterations=2), COUNTS)
    (one, _), (other, _) = f2a.rounds(2), plain.rounds(2)
    for name in one.arrays:
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])


# (g) Rubbish.


def spoil(values: np.ndarray, n: int) -> np.ndarray:
    return np.where(np.arange(values.size) == n, np.float32(np.nan), values)


RUBBISH: dict[str, Callable[[Feedback], Feedback]] = {
    "not a number": lambda reply: replace(reply, gradient=Packed(spoil(reply.gradient.data, 9), reply.gradient.scales)),
    "infinite": lambda reply: replace(
        reply, gradient=Packed(np.full_like(reply.gradient.data, np.inf), reply.gradient.scales)
    ),
    "an image too few": lambda reply: replace(
        reply, gradient=Packed(reply.gradient.data[: -SIDE * SIDE], reply.gradient.scales)
    ),
    "another type": lambda reply: replace(
        reply, gradient=Packed(reply.gradient.data.astype(np.float64), reply.gradient.scales)
    ),
    "scores that are none": lambda reply: replace(reply, scores=np.full(B, np.nan, np.float32)),
    "a score too few": lambda reply: replace(reply, scores=np.zeros(B - 1, np.float32)),
    "scores of another shape": lambda reply: replace(reply, scores=np.zeros((B, 1), np.float32)),
}


def spoiling(kind: str, bad: set[int]) -> type[Device]:
    class Spoiling(Device):
        def feedback(self, *args: Any) -> Feedback:
            reply = super().feedback(*args)
            return RUBBISH[kind](reply) if self.context.device in bad else reply

    return Spoiling


@pytest.mark.parametrize("kind", list(RUBBISH))
def test_a_device_that_replies_rubbish_is_left_out(kind: str) -> None:
    """The gradient is that of the mean over the others; autograd in one process again."""
    federation = Federation(
        {"name": "f2a", "batch": B, "iterations": 1, "forgiveness": 0.0}, COUNTS, spoiling(kind, {1, 3})
    )
    _, reports = federation.rounds()
    assert [report.client for report in reports] == [0, 2, 4]
    assert federation.fleet.settle().rejected == {1, 3}
    plain, workers, x_g = workers_and_fakes(federation, 1, 1)
    losses = [real_loss(workers[n].scores(x_g[n])) for n in (0, 2, 4)]
    torch.stack(losses).mean().backward()
    assert_near(federation.generator_gradient(), gradient(plain))


@pytest.mark.parametrize("kind", ["not a number", "an image too few"])
def test_md_gan_leaves_rubbish_out_too(kind: str) -> None:
    class Spoiling(Device):
        def feedback(self, *args: Any) -> Feedback:
            reply = super().feedback(*args)
            return RUBBISH[kind](reply) if self.context.device == 2 else reply

    federation = Federation(md_gan(batches=2), COUNTS, Spoiling)
    _, reports = federation.rounds()
    assert [report.client for report in reports] == [0, 1, 3, 4]
    plain, workers, x_g = workers_and_fakes(federation, 2, 1)
    losses = [real_loss(workers[n].scores(x_g[n])) for n in (0, 1, 3, 4)]
    torch.stack(losses).mean().backward()
    assert_near(federation.generator_gradient(), gradient(plain))


def test_a_round_without_replies_leaves_the_generator_as_it_was() -> None:
    federation = Federation({"name": "f2u", "batch": B, "iterations": 2}, COUNTS, spoiling("infinite", set(range(5))))
    before = federation.server.init()
    after, reports = federation.server.round(before, federation.fleet)
    assert reports == []
    assert after.round == 1
    for name in before.arrays:
        np.testing.assert_array_equal(after.arrays[name], before.arrays[name])


def test_an_iteration_without_replies_takes_no_step() -> None:
    """Everyone's first reply is rubbish: what the second does to G's weights, it does as Adam's first step."""

    class Late(Device):
        def feedback(self, fakes_d: Packed, fakes_g: Packed, load: Any, round: int, iteration: int) -> Feedback:
            reply = super().feedback(fakes_d, fakes_g, load, round, iteration)
            return reply if iteration else RUBBISH["infinite"](reply)

    federation = Federation(md_gan(batches=1, iterations=2), COUNTS, Late)
    before = federation.server.init()
    after, reports = federation.server.round(before, federation.fleet)
    assert {report.examples for report in reports} == {B}, "one of the two replies"
    assert after.arrays["generator.step"].tolist() == [1] * len(after.arrays["generator.step"])
