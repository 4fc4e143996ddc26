"""FeGAN's formulas by hand, and its round's identities with the methods it contains."""

import math

import numpy as np
import pytest

from rayfed.aggregation import GroupWeights, uniform
from rayfed.config import parse
from rayfed.data.population import Population
from rayfed.data.shard import Shard, Shards
from rayfed.engine.trainer import device_host
from rayfed.fleet.codec import Codec, Packed
from rayfed.fleet.host import Host
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Missing
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Update, average, train_group
from rayfed.methods.fegan import kl_scores, kl_weights
from rayfed.methods.spec import method_of
from rayfed.models.networks import architecture
from rayfed.scheduling.load import Load, equal_load
from rayfed.tasks.gan.workspace import GanWorkspace


def test_scores_by_hand() -> None:
    """Counts (6, 2) and (0, 4): n = 12, Q = (1/2, 1/2).

    Device 0: P = (3/4, 1/4), KL = 3/4 log(3/2) + 1/4 log(1/2), times 8/12.
    Device 1: P = (0, 1), KL = log 2, times 4/12.
    """
    expected = [8 / 12 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), 4 / 12 * math.log(2)]
    np.testing.assert_allclose(kl_scores(np.array([[6, 2], [0, 4]])), expected)


def test_scores_are_zero_where_devices_mirror_the_whole_or_hold_nothing() -> None:
    np.testing.assert_allclose(kl_scores(np.array([[3, 6], [1, 2], [0, 0]])), [0, 0, 0], atol=1e-15)


@pytest.mark.parametrize(
    ("scheme", "sign", "expected"),
    [
        ("exp", "authors", [1 / 6, 2 / 6, 3 / 6]),  # exp of log 1, log 2, log 3
        ("exp", "opposite", [6 / 11, 3 / 11, 2 / 11]),  # 1, 1/2, 1/3
        ("linear", "authors", [0, math.log(2) / math.log(6), math.log(3) / math.log(6)]),
        ("dirac", "authors", [0, 0, 1]),  # only 3/6 is not under 0.5
        ("dirac", "opposite", [1, 0, 0]),
    ],
)
def test_weights_by_hand(scheme: str, sign: str, expected: list[float]) -> None:
    scores = np.log([1.0, 2.0, 3.0])
    np.testing.assert_allclose(kl_weights(scores, scheme, sign), expected, atol=1e-12)


def test_where_a_scheme_leaves_nothing_the_weights_are_exps() -> None:
    np.testing.assert_allclose(kl_weights(np.zeros(4), "linear", "authors"), [0.25] * 4)
    np.testing.assert_allclose(kl_weights(np.log([1.0, 1.0, 2.0, 1.0]), "dirac", "authors"), [0.2, 0.2, 0.4, 0.2])


class Sender:
    """Replies with what AVERAGED says of it."""

    def __init__(self, number: int, state: dict) -> None:
        self.number, self.state = number, state

    def train(self) -> Update:
        return Update(self.number, Packed(AVERAGED[self.number], np.empty(0, np.float32)), Load(1, 1), {})


AVERAGED = [np.array(values, np.float32) for values in ([1, 2, 3], [5, 6, 11], [np.nan, 0, 0])]


@pytest.mark.parametrize(
    ("group", "planned", "expected"),
    [
        ([0, 1], [0.25, 0.75], ([4, 5], [9], [0, 1])),
        # Device 2's values are not finite: the others are weighed anew, 0.2 / 0.8 and 0.6 / 0.8.
        ([0, 1, 2], [0.2, 0.6, 0.2], ([4, 5], [9], [0, 1])),
    ],
)
def test_average_by_hand(group: list, planned: list, expected: tuple) -> None:
    codec = Codec("float32", {"generator": (2,), "discriminator": (1,)})
    server, _ = build({"name": "fegan"})
    method, meter = server.context.config.method, server.context.workspace.meter

    def weigh(clients, loads):
        weights = np.array(planned)[list(clients)]
        return weights / weights.sum()

    fleet = LocalFleet(Host(Sender))
    futures = [fleet.submit(device, "train") for device in group]
    mean, reports = average(fleet, method, meter, codec, futures, GroupWeights(weigh, dict.fromkeys(group, Load(1, 1))))
    np.testing.assert_allclose(mean["generator"], expected[0], rtol=1e-6)
    np.testing.assert_allclose(mean["discriminator"], expected[1], rtol=1e-6)
    assert [report.client for report in reports] == expected[2]


def test_a_reply_that_is_lost_when_it_is_asked_for_again_leaves_the_models() -> None:
    class Forgetful(LocalFleet):
        def again(self, futures):
            yield from (Missing(future.device, "lost") for future in futures)

    server, _ = build({"name": "fegan"})
    codec, fleet = Codec("float32", {"generator": (3,)}), Forgetful(Host(Sender))
    futures = [fleet.submit(device, "train") for device in (0, 1, 2)]
    weights = GroupWeights(uniform, dict.fromkeys((0, 1, 2), Load(1, 1)))
    method, meter = server.context.config.method, server.context.workspace.meter
    assert average(fleet, method, meter, codec, futures, weights) == ({}, [])


COUNTS = np.array([[30, 0, 2], [0, 12, 0], [8, 8, 8], [0, 1, 40]])


def build(method: dict, wire: str = "float32"):
    """A tiny federation of four devices with COUNTS samples of random images."""
    config = parse(
        {
            "method": {"fraction": 0.5, "batch": 4, "iterations": 2} | method,
            "devices": {"count": 4},
            "model": {"name": "dcgan28", "width": 4},
            "wire": wire,
        }
        if method["name"] != "centralized"
        else {"method": {"batch": 4, "iterations": 2} | method, "model": {"name": "dcgan28", "width": 4}}
    )
    images = np.random.default_rng(0).integers(0, 256, (COUNTS.sum(), 1, 28, 28), np.uint8)
    ends = np.cumsum(COUNTS.sum(axis=1))
    parts = np.split(np.arange(COUNTS.sum()), ends[:-1])
    labels = np.repeat(np.tile(np.arange(3), 4), COUNTS.ravel())
    population = Population(1, COUNTS, union=COUNTS.sum(axis=0), whole=COUNTS.sum(axis=0))
    fleet = LocalFleet(device_host(config, population, Shards(images, labels, parts, 3, config.seed)))
    spec = method_of(config)
    workspace = spec.task.workspace(config, population)
    server = spec.server_half()(ServerContext(config, workspace, spec.scheduler(config, population)))
    return server, fleet


def rounds(method: dict, count: int = 2):
    server, fleet = build(method)
    state = server.init()
    for _ in range(count):
        state, reports = server.round(state, fleet)
    return state, reports


def test_without_sampling_and_weighting_it_is_fl_vanilla() -> None:
    fegan, _ = rounds({"name": "fegan", "sampling": "random", "weighting": "uniform"})
    vanilla, _ = rounds({"name": "fl-vanilla"})
    for name in fegan.arrays:
        np.testing.assert_array_equal(fegan.arrays[name], vanilla.arrays[name])


def test_fedgan_weights_are_samples_by_hand() -> None:
    """Devices 1 and 3 of COUNTS hold 12 and 41 samples."""
    server, _ = build({"name": "fedgan"})
    np.testing.assert_allclose(server.weigh([1, 3], [Load(4, 2)] * 2), [12 / 53, 41 / 53])


def test_weights_are_kl_weights_times_loads() -> None:
    """Loads 4*2 = 8 and 2*3 = 6, KL weights of devices 1 and 2 from the formula above."""
    server, _ = build({"name": "fegan"})
    s1, s2 = kl_scores(COUNTS)[[1, 2]]
    expected = np.array([8 * math.exp(s1), 6 * math.exp(s2)])
    np.testing.assert_allclose(server.weigh([1, 2], [Load(4, 2), Load(2, 3)]), expected / expected.sum())


def test_a_device_with_few_images_weighs_what_its_memory_and_compute_were_assigned() -> None:
    """Section 3.4's load is the B x E that was assigned, 4*2 for both, though one fills batches of 1 alone."""
    server, _ = build({"name": "fegan"})
    s1, s2 = kl_scores(COUNTS)[[1, 2]]
    expected = np.array([math.exp(s1), math.exp(s2)])
    np.testing.assert_allclose(server.weigh([1, 2], [Load(4, 2, 4), Load(1, 2, 4)]), expected / expected.sum())


@pytest.mark.parametrize(("wire", "extra"), [("float32", 0), ("float16", 0), ("int8", 4)])
def test_bytes_are_two_ways_times_participants_times_models(wire: str, extra: int) -> None:
    """2 * participants * (|G| + |D| with buffers) * bytes per value; int8 adds one float32 scale per tensor."""
    server, fleet = build({"name": "fegan"}, wire)
    server.round(server.init(), fleet)
    ledger = fleet.settle()
    tensors = [t for net in server.context.workspace.gan.networks.values() for t in net.state_dict().values()]
    model = sum(t.numel() for t in tensors) * np.dtype(wire).itemsize + extra * len(tensors)
    assert ledger.bytes_down == ledger.bytes_up == 2 * model
    assert ledger.bytes_across == 0


@pytest.mark.parametrize("name", ["lsgan", "dcgan28", "dcgan32"])
def test_a_device_with_one_image_trains_on_batches_of_it_twice(name: str) -> None:
    """FeGAN's engine gives the first device one image; BatchNorm over vectors cannot do with a batch of one."""
    config = parse({"method": {"name": "fegan", "fraction": 0.1}, "model": {"name": name}})
    side = architecture(name).side
    image = np.random.default_rng(0).integers(0, 256, (1, 1, side, side), np.uint8)
    gan = GanWorkspace(config, 1, 1).gan
    shard = Shard(0, image, np.zeros(1, np.int64), np.array([0]), 1, config.seed)
    (load,) = equal_load(np.array([1]), batch=50, iterations=2)
    batches = list(shard.batches(load.batch, load.iterations, round=1))
    assert [batch.shape[0] for batch in batches] == [2, 2]
    gan.initialise(0)
    assert np.isfinite(gan.train(batches, seed=1)).all()


def test_the_centralised_reference_moves_nothing() -> None:
    server, fleet = build({"name": "centralized"})
    _, reports = server.round(server.init(), fleet)
    assert len(reports) == 1
    assert fleet.settle().transfers == []


def test_moments_stay_on_the_device_or_start_afresh() -> None:
    for moments, changed in (("keep", True), ("fresh", False)):
        server, fleet = build({"name": "fegan", "moments": moments})
        server.round(server.init(), fleet)
        assert all(bool(state) == changed for state in fleet.changed().values())


class Broken:
    """A device whose models are not finite, or of another layout."""

    def __init__(self, number: int, state: dict) -> None:
        self.number, self.state = number, state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        values = models.data.copy()
        if self.number == 0:
            values[5] = np.nan
        if self.number == 1:
            values = values[:-1]
        if self.number == 2:
            values = np.full_like(values, 3e38)  # finite, though their sum is not
        return Update(self.number, Packed(values, models.scales), load, {})


def test_what_is_not_a_finite_model_is_not_averaged() -> None:
    server, _ = build({"name": "fegan"})
    fleet = LocalFleet(Host(Broken))
    loads = dict.fromkeys((0, 1, 2, 3), Load(1, 1))
    method, codec = server.context.config.method, server.context.workspace.codec
    with np.errstate(over="ignore"):
        meter = server.context.workspace.meter
        _, reports = train_group(fleet, method, meter, codec, server.init(), loads, uniform)
    assert [report.client for report in reports] == [2, 3]
    assert fleet.settle().rejected == {0, 1}


def test_a_round_without_updates_keeps_the_models() -> None:
    server, _ = build({"name": "fegan", "fraction": 0.25})
    before = server.init()
    fleet = LocalFleet(Host(lambda number, state: Broken(0, state)))
    after, reports = server.round(before, fleet)
    assert reports == []
    assert after.round == 1
    for name in before.arrays:
        np.testing.assert_array_equal(after.arrays[name], before.arrays[name])
