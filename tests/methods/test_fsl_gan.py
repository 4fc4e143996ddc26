"""FSL-GAN: split over any devices, with or without micro-batches, it is the unsplit discriminator."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from rayfed.config import RunConfig, parse
from rayfed.config.simulation import Profile, Twin
from rayfed.data.population import Population
from rayfed.data.setup import prepare
from rayfed.data.shard import Shards
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.session import LocalSession
from rayfed.engine.trainer import device_host
from rayfed.errors import CapacityError, UserError
from rayfed.fleet.host import Host
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Future, Missing
from rayfed.methods.context import ServerContext
from rayfed.methods.fsl_gan.scheduler import ClientScheduler, Placement
from rayfed.methods.spec import method_of
from rayfed.models import flat
from rayfed.models.gan import gan_of, seeded, to_images
from rayfed.models.portions import blocks, described
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.gan.workspace import GanWorkspace

COUNTS = np.array([[10, 10], [10, 10], [10, 10]])
BATCH = 6
WHOLE, TAIL, HEAD = 1e6, 4_000, 1_000
"""Parameters: dcgan28 of width 4 has 4,385 in blocks of 104, 808, 3,216 and 257, portions of 104, 808 and 3,473; TAIL
holds the last portion, HEAD the first two."""


def client(name: str, *capacities: float) -> dict[str, Any]:
    devices = [{"name": f"{i}", "capacity": size, "time_factor": 1.0 + i} for i, size in enumerate(capacities)]
    return {"name": name, "devices": devices}


def configure(clients: list[dict[str, Any]], **method: Any) -> RunConfig:
    settings = {"name": "fsl-gan", "batch": BATCH, "iterations": 1, "clients": clients} | method
    return parse(
        {
            "seed": 4,
            "method": settings,
            "devices": {"count": len(clients)},
            "data": {"partition": "iid"},
            "model": {"name": "dcgan28", "width": 4},
            "twin": {"network": {"kind": "lan"}},
        }
    )


def shards_of(config: RunConfig) -> Shards:
    """20 random images for each client."""
    clients = config.devices.count
    images = np.random.default_rng(0).integers(0, 256, (20 * clients, 1, 28, 28), np.uint8)
    labels = np.tile([0, 1], 10 * clients)
    return Shards(images, labels, np.split(np.arange(20 * clients), clients), 2, config.seed)


def setting(config: RunConfig, dropout: bool = True) -> tuple[Any, LocalFleet, GanWorkspace]:
    """Server, fleet and the fleet's workspace, on random images; with dropout or without."""
    counts, spec = COUNTS[: config.devices.count], method_of(config)
    population = Population(1, counts, union=counts.sum(axis=0), whole=counts.sum(axis=0))
    host = device_host(config, population, shards_of(config))
    workspace = host.build(0, {}).workspace
    if not dropout:
        for layer in workspace.gan.discriminator.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    context = ServerContext(config, spec.task.workspace(config, population), spec.scheduler(config, population))
    return spec.server_half()(context), LocalFleet(host), workspace


def train(config: RunConfig, rounds: int = 2) -> dict[str, np.ndarray]:
    server, fleet, _ = setting(config)
    state = server.init()
    for _ in range(rounds):
        state, reports = server.round(state, fleet)
        assert len(reports) == config.devices.count
    return state.arrays


def told(state: Any) -> tuple[str, ...]:
    """What happened in the round, in words."""
    return tuple(event.sentence() for event in state.events)


SPLITS = {
    "one device": {"clients": [client("a", WHOLE), client("b", WHOLE)]},
    "two devices": {"clients": [client("a", HEAD, TAIL), client("b", TAIL, HEAD)]},
    "three devices": {
        "clients": [client("a", *[WHOLE] * 3), client("b", *[WHOLE] * 3)],
        "strategy": "sorted_single",
    },
    "four devices": {
        "clients": [client("a", *[WHOLE] * 4), client("b", *[WHOLE] * 4)],
        "strategy": "random_single",
        "portions": "blocks",
    },
}


@pytest.mark.parametrize("split", ["two devices", "three devices", "four devices"])
def test_twenty_steps_split_end_with_the_bits_of_the_unsplit(split: str) -> None:
    unsplit = train(configure(**SPLITS["one device"], iterations=10))
    other = train(configure(**SPLITS[split], iterations=10))
    for name, vector in unsplit.items():
        np.testing.assert_array_equal(vector, other[name], err_msg=name)


def test_two_devices_really_hold_two_portions() -> None:
    config = configure(**SPLITS["two devices"])
    scheduler = ClientScheduler(config, COUNTS[:2], described(config.model))
    first, second = scheduler.placements(1, [])
    assert first.stages == ((0, (0, 1)), (1, (2, 3)))
    assert {device for device, _ in second.stages} == {2, 3}


@pytest.mark.parametrize("split", list(SPLITS))
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_one_step_has_the_gradients_of_autograd_on_the_unsplit_network(split: str, micro: int) -> None:
    """Without dropout, against plain torch: D's gradient from Adam's first moment, G's from its own."""
    config = configure(**SPLITS[split], micro_batches=micro)
    server, fleet, _ = setting(config, dropout=False)
    shards, start = shards_of(config), server.init()
    _, gan = server.round(start, fleet), server.workspace.gan
    reference = gan_of(config, 1, 2)
    reference.load_models({name: start.arrays[name] for name in ("generator", "discriminator")})
    reference.generator.train()
    reference.discriminator.train()
    for layer in reference.discriminator.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    with seeded(torch_seed(config.seed, 1, SERVER, "noise 0")):
        fakes = reference.generator(torch.randn(BATCH, 100))
    total = torch.zeros_like(fakes)
    states = fleet.changed()
    for number in range(2):
        reference.load_models({"discriminator": start.arrays["discriminator"]})
        (batch,) = shards.of(number).indices(BATCH, 1, 0, 1)
        real = to_images(shards.images[batch], torch.device("cpu"))
        d = reference.discriminator
        d.zero_grad()
        loss = F.binary_cross_entropy_with_logits(d(real), torch.ones(BATCH, 1))
        loss = (loss + F.binary_cross_entropy_with_logits(d(fakes.detach()), torch.zeros(BATCH, 1))) / 2
        loss.backward()
        for device, stage in [(k, s) for k, s in states.items() if owner(config, k) == number]:
            for index, block in enumerate(blocks(d)):
                if f"block{index}.exp_avg" in stage:
                    expected = flat.flatten(p.grad for p in block.parameters())
                    found = stage[f"block{index}.exp_avg"] / (1 - config.model.beta1)
                    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-5, err_msg=f"{device} {index}")
        optimizer = torch.optim.Adam(d.parameters(), config.model.lr, (config.model.beta1, config.model.beta2))
        optimizer.step()
        x = fakes.detach().requires_grad_()
        F.binary_cross_entropy_with_logits(d(x), torch.ones(BATCH, 1)).backward()
        total += x.grad
    fakes.backward(total)
    expected = flat.flatten(p.grad for p in reference.generator.parameters())
    found = gan.optimizer_state(["generator"])["generator.exp_avg"] / (1 - config.model.beta1)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-4)


def owner(config: RunConfig, device: int) -> int:
    """The client of a device number."""
    sizes = [len(each.devices) for each in config.method.clients]
    return int(np.searchsorted(np.cumsum(sizes), device, side="right"))


@pytest.mark.parametrize("micro", [1, 2])
def test_bytes_between_devices_are_activations_forward_and_gradients_back(micro: int) -> None:
    """Client a cuts after block 2: 8 channels of 7x7 per image, 4 bytes each. Per batch D hands on real images and
    fakes and gets both gradients, the pass for G fakes alone: (2 + 2 + 1 + 1) * 6 images * 392 values * 4 bytes.
    """
    config = configure([client("a", HEAD, TAIL)], micro_batches=micro)
    server, fleet, _ = setting(config)
    server.round(server.init(), fleet)
    ledger = fleet.settle()
    assert ledger.bytes_across == (2 + 2 + 1 + 1) * BATCH * 8 * 7 * 7 * 4
    discriminator = sum(server.sizes) * 4
    images = BATCH * 28 * 28 * 4
    assert (ledger.bytes_down, ledger.bytes_up) == (discriminator + images, discriminator + images)


@pytest.mark.parametrize("micro", [1, 2])
def test_bytes_by_kind_by_hand(micro: int) -> None:
    """Client a cuts after block 2, client b has one device. Per image 8x7x7 activations of a's, 28x28 values of fakes
    and feedback of each; 104 + 808 + 3216 + 257 parameters of each, down and up.

    a's first device hands on real images and fakes for D and fakes for G, and gets as many gradients.
    """
    config = configure([client("a", HEAD, TAIL), client("b", WHOLE)], micro_batches=micro, iterations=3)
    server, fleet, _ = setting(config)
    server.round(server.init(), fleet)
    assert fleet.settle().bytes_by_kind == {
        "activations": 3 * (2 + 1) * BATCH * 8 * 7 * 7 * 4,
        "gradients": 3 * (2 + 1) * BATCH * 8 * 7 * 7 * 4,
        "fakes": 3 * 2 * BATCH * 28 * 28 * 4,
        "feedback": 3 * 2 * BATCH * 28 * 28 * 4,
        "model": 2 * 2 * (104 + 808 + 3_216 + 257) * 4,
    }


def test_between_devices_nothing_is_rounded_whatever_the_servers_wire() -> None:
    """float16 halves what the server sends and gets; activations and gradients stay float32."""
    tree = configure([client("a", HEAD, TAIL)]).model_dump(mode="json") | {"wire": "float16"}
    server, fleet, _ = setting(parse(tree))
    server.round(server.init(), fleet)
    assert fleet.settle().bytes_by_kind == {
        "activations": 3 * BATCH * 8 * 7 * 7 * 4,
        "gradients": 3 * BATCH * 8 * 7 * 7 * 4,
        "fakes": BATCH * 28 * 28 * 2,
        "feedback": BATCH * 28 * 28 * 2,
        "model": 2 * (104 + 808 + 3_216 + 257) * 2,
    }


class WithDead(LocalFleet):
    """A fleet in which some devices are dead from a call on: neither they nor what waits for them reply."""

    dead: frozenset[int] = frozenset()
    after = 0

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.lost: list[Future] = []

    def submit(self, device: int, method: str, *args: Any, cost: float = 1.0) -> Future:
        lost = {future.call for future in self.lost}
        if (device in self.dead and self._calls >= self.after) or any(
            isinstance(arg, Future) and arg.call in lost for arg in args
        ):
            future = Future(-1 - len(self.lost), device, method, ())
            self.lost.append(future)
            return future
        return super().submit(device, method, *args, cost=cost)

    def collect(self, futures: Any, deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
        alive = [future for future in futures if future.call >= 0]
        replies = iter(super().collect(alive))
        return [next(replies) if future.call >= 0 else Missing(future.device, "lost") for future in futures]


def with_dead(config: RunConfig, dead: set[int], after: int) -> tuple[Any, WithDead]:
    server, fleet, _ = setting(config)
    other = WithDead(fleet._host)
    other.dead, other.after = frozenset(dead), after
    return server, other


def replanned(config: RunConfig, gone: list[int]) -> Placement:
    """Client a's plan without some devices."""
    return ClientScheduler(config, COUNTS[:2], described(config.model)).placements(1, gone)[0]


def test_a_dead_devices_client_goes_on_with_its_others_from_the_last_commit() -> None:
    """Client a has four devices that could each hold everything, three of them in use; the second in its chain dies."""
    clients = [client("a", *[WHOLE] * 4), client("b", *[WHOLE] * 3)]
    config = configure(clients, iterations=3, strategy="sorted_single")
    victim = replanned(config, []).stages[1][0]
    server, fleet = with_dead(config, {victim}, after=20)
    state, reports = server.round(server.init(), fleet)
    assert [report.client for report in reports] == [0, 1]
    others = ", ".join(f"a/{k}" for k, _ in replanned(config, [victim]).stages)
    assert told(state) == (f"client a lost a/{victim} in batch 1: begins again on {others}",)
    assert all(np.isfinite(vector).all() for vector in state.arrays.values())


def test_a_client_whose_other_devices_have_no_room_sits_out_until_it_is_back() -> None:
    config = configure([client("a", HEAD, TAIL), client("b", WHOLE)], iterations=2)
    server, fleet = with_dead(config, {1}, after=6)
    state, reports = server.round(server.init(), fleet)
    assert [report.client for report in reports] == [1]
    assert told(state) == ("client a lost a/1 in batch 1: sits out",)
    state, reports = server.round(state, fleet)
    assert ([report.client for report in reports], told(state)) == ([1], ())
    fleet.dead = frozenset()
    state, reports = server.round(state, fleet)
    assert ([report.client for report in reports], told(state)) == ([0, 1], ("a/1 is back",))


def test_a_client_whose_portion_is_no_number_is_told_and_rejected() -> None:
    class Spoiling(LocalFleet):
        def collect(self, futures: Any, deadline: float | None = None, quorum: float = 0.0) -> list[Any]:
            replies = super().collect(futures, deadline, quorum)
            return [
                replace(reply, data=reply.data * np.nan) if future.method == "give" and future.device == 0 else reply
                for future, reply in zip(futures, replies, strict=True)
            ]

    server, fleet, _ = setting(configure([client("a", WHOLE), client("b", WHOLE)]))
    spoiling = Spoiling(fleet._host)
    state, reports = server.round(server.init(), spoiling)
    assert [report.client for report in reports] == [1]
    assert told(state) == ("client a sent values that are not finite after the last batch: what it learnt is lost",)
    assert spoiling.settle().rejected == {0}


def test_where_the_strategy_has_no_room_for_a_client_that_lost_a_device_optimal_has() -> None:
    """One portion per device takes three devices, of which one dies; the other two can hold it all, or one of them."""
    config = configure([client("a", WHOLE, WHOLE, WHOLE)], strategy="sorted_single")
    _, _, (victim, _) = replanned(config, []).stages
    server, fleet = with_dead(config, {victim}, after=0)
    state, reports = server.round(server.init(), fleet)
    first, *_ = (device for device in range(3) if device != victim)
    assert told(state) == (f"client a lost a/{victim} in batch 1: begins again on a/{first}",)
    assert len(reports) == 1


def test_a_client_without_room_for_the_strategy_takes_no_part_with_fewer_devices_either() -> None:
    config = configure([client("a", WHOLE, WHOLE), client("b", WHOLE, WHOLE, WHOLE)], strategy="sorted_single")
    scheduler = ClientScheduler(config, COUNTS[:2], described(config.model))
    assert scheduler.misfits() == {"a": "too few devices for sorted_single, though not for optimal"}
    assert [placement.client for placement in scheduler.placements(1, [0])] == [1]


def test_when_every_client_has_lost_what_it_needs_the_run_ends() -> None:
    config = configure([client("a", HEAD, TAIL), client("b", WHOLE)], iterations=2)
    server, fleet = with_dead(config, {1, 2}, after=6)
    state, reports = server.round(server.init(), fleet)
    assert reports == []
    with pytest.raises(CapacityError, match=r"^no client has .* to go on: a/1, b/0 are lost; see to"):
        server.round(state, fleet)
    fleet.dead = frozenset([1])
    assert [report.client for report in server.round(state, fleet)[1]] == [1]


class DiesBefore(WithDead):
    """A device is dead from its first call of a method on."""

    victim, fatal = 1, "give"

    def submit(self, device: int, method: str, *args: Any, cost: float = 1.0) -> Future:
        if device == self.victim and method == self.fatal:
            self.dead = frozenset([device])
        return super().submit(device, method, *args, cost=cost)


def test_a_device_that_dies_after_the_last_batch_is_told_and_planned_around() -> None:
    config = configure([client("a", HEAD, TAIL, TAIL), client("b", WHOLE)], iterations=2)
    server, fleet, _ = setting(config)
    dies = DiesBefore(fleet._host)
    state, reports = server.round(server.init(), dies)
    assert [report.client for report in reports] == [1]
    assert told(state) == ("client a lost a/1 after the last batch: what it learnt is lost",)
    dies.fatal = "never"
    state, reports = server.round(state, dies)
    assert [report.client for report in reports] == [0, 1]
    assert told(state) == ("client a moves to a/0, a/2",)


def test_the_slowest_client_is_left_out_if_asked() -> None:
    """b's one device is a time factor of 1 with everything; a's only room is on its second device, of factor 2."""
    clients = [client("a", 10, WHOLE), client("b", WHOLE)]
    config = configure(clients, drop_slowest=True)
    server, fleet, _ = setting(config)
    state, reports = server.round(server.init(), fleet)
    assert [report.client for report in reports] == [1]
    (event,) = told(state)
    assert event.startswith("client a is left out: the slowest, ")
    state, reports = server.round(state, fleet)
    assert ([report.client for report in reports], told(state)) == ([1], ())


def test_a_client_that_lost_a_device_is_not_dropped_as_the_slowest_in_mid_round() -> None:
    """c, with time factor 3, is left out; a's first device dies, and a goes on with its second, of factor 2."""
    clients = [client("a", WHOLE, WHOLE), client("b", WHOLE), client("c", 10, 10, WHOLE)]
    config = configure(clients, drop_slowest=True)
    server, fleet = with_dead(config, {0}, after=0)
    state, reports = server.round(server.init(), fleet)
    assert [report.client for report in reports] == [0, 1]
    assert told(state)[1:] == ("client a lost a/0 in batch 1: begins again on a/1",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"devices": {"count": 3}},
            "devices.count = 3: fsl-gan spreads the data over its clients, and the table has 1",
        ),
        (
            {"twin": {"deadline_s": 1.0, "drop_late": True}},
            "twin.drop_late = true: fsl-gan waits for every client's reply; method.drop_slowest = true leaves the slow",
        ),
    ],
)
def test_what_cannot_be_is_one_line(changes: dict[str, Any], message: str) -> None:
    tree = {
        "method": {"name": "fsl-gan", "clients": [client("a", WHOLE)], "micro_batches": 2},
        "devices": {"count": 1},
        "model": {"name": "dcgan28"},
    }
    with pytest.raises(UserError) as refused:
        parse(tree | changes)
    assert str(refused.value).startswith(message)


def of_one_client(model: str, micro: int) -> RunConfig:
    """One client that has room for everything."""
    settings = {"name": "fsl-gan", "clients": [client("a", 1e9)], "batch": BATCH, "iterations": 1}
    return parse(
        {
            "method": settings | {"micro_batches": micro},
            "devices": {"count": 1},
            "data": {"partition": "iid"},
            "model": {"name": model},
        }
    )


def preflight(config: RunConfig) -> list[str]:
    """What there is to tell before a run starts."""
    return method_of(config).preflight(config, Population(1, COUNTS[:1], COUNTS[0], COUNTS[0]))


@pytest.mark.parametrize("model", ["lsgan", "dcgan32", "dcgan64", "tests.plugins.networks:NORMED"])
def test_micro_batches_cannot_pass_through_batch_norm(model: str) -> None:
    with pytest.raises(UserError) as refused:
        preflight(of_one_client(model, micro=2))
    assert str(refused.value) == (
        f"method.micro_batches = 2: {model}'s discriminator has BatchNorm, whose gradients need the whole batch; "
        "use 1, or dcgan28"
    )
    assert preflight(of_one_client(model, micro=1)) == []


@pytest.mark.parametrize("model", ["dcgan28", "tests.plugins.networks:GOOD"])
def test_micro_batches_pass_through_a_discriminator_without_it(model: str) -> None:
    assert preflight(of_one_client(model, micro=2)) == []


def test_networks_of_ones_own_have_the_gradient_of_the_whole_batch() -> None:
    """In micro-batches too, but for the order in which it is summed up."""
    found = []
    for micro in (1, 3):
        config = of_one_client("tests.plugins.networks:GOOD", micro)
        session = LocalSession(config, prepare(config, 8))
        session.start(None)
        found.append(session.round().state.optimizer["generator.exp_avg"])
    assert np.abs(found[0]).max() > 1e-4
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-8)


def test_plans_that_follow_drifting_speeds_change_no_weight() -> None:
    """Each device can hold everything; who is fastest changes, and Adam's moments go where the blocks go."""
    clients = [client("a", WHOLE, WHOLE, WHOLE), client("b", WHOLE, WHOLE)]
    (steady, steady_told), (drifting, drifting_told) = (drift_run(clients, drift) for drift in (0.0, 1.0))
    assert {"b/0 computes in 3.83 times its profile's seconds", "client b moves to b/1"} <= set(drifting_told)
    assert steady_told == []
    assert drifting.metrics["sim_total_seconds"] != steady.metrics["sim_total_seconds"]
    for name, vector in steady.state.arrays.items():
        np.testing.assert_array_equal(vector, drifting.state.arrays[name], err_msg=name)


def drift_run(clients: list[dict[str, Any]], drift: float) -> tuple[Checkpoint, list[str]]:
    """Five rounds: the last checkpoint, and what happened in all of them."""
    config = configure(clients, iterations=2)
    config = config.model_copy(update={"twin": Twin(devices=[Profile(drift=drift)], network=config.twin.network)})
    session = LocalSession(config, prepare(config, 28))
    session.start(None)
    rounds = [session.round() for _ in range(5)]
    return rounds[-1], [event.sentence() for checkpoint in rounds for event in checkpoint.events]


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("split", list(SPLITS))
def test_operations_are_those_of_the_unsplit_network(split: str, micro: int) -> None:
    """Per client D's step on 6 real images and 6 fakes, and the pass for G, counted by torch on the whole network."""
    config = configure(**SPLITS[split], micro_batches=micro)
    server, fleet, workspace = setting(config)
    server.round(server.init(), fleet)
    d = workspace.gan.discriminator
    with FlopCounterMode(display=False) as counter:
        d(torch.randn(2 * BATCH, 1, 28, 28)).sum().backward()
        d.requires_grad_(False)
        d(torch.randn(BATCH, 1, 28, 28, requires_grad=True)).sum().backward()
    assert sum(call.flops for call in fleet.ledger().calls) == 2 * counter.get_total_flops()


SLOW = {"flops_per_s": 1e7}
STRATEGIES = ("optimal", "sorted_single", "sorted_multiple", "random_single", "random_multiple")


@pytest.mark.parametrize(
    ("network", "tolerance"),
    [({"kind": "lan"}, 1e-9), ({"kind": "wired", "latency_s": 0.003, "up_mbps": 2.0}, 6e-4)],
)
def test_the_plans_seconds_are_the_twins(network: dict[str, Any], tolerance: float) -> None:
    """Two strategies' rounds differ by what their plans differ by, and none is faster than `optimal`.

    A round is 2 iterations; what the server does and sends to the first device is the same for all but for the latter's
    weights: 912 or 104 values of 4 bytes, which on the wire at 50 Mbit/s make 0.52 ms.
    """
    table = [client("a", HEAD, TAIL, WHOLE)]
    table[0]["devices"][2]["time_factor"] = 9.0
    planned, simulated = {}, {}
    for strategy in STRATEGIES:
        config = configure(table, strategy=strategy, iterations=2)
        config = parse(config.model_dump(mode="json") | {"twin": {"network": network, "devices": [SLOW]}})
        session = LocalSession(config, prepare(config, 28))
        session.start(None)
        simulated[strategy] = session.round().metrics["sim_seconds"]
        scheduler = ClientScheduler(config, COUNTS[:1], described(config.model))
        planned[strategy] = 2 * scheduler.placements(1, [])[0].step_seconds
    assert len(set(planned.values())) > 2
    for strategy in STRATEGIES:
        assert simulated[strategy] >= simulated["optimal"]
        found = simulated[strategy] - simulated["optimal"]
        assert found == pytest.approx(planned[strategy] - planned["optimal"], abs=tolerance)
