"""A run on its twin: the late are left out as if never asked, and simulated times are the same in every run."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rayfed.config import RunConfig, parse
from rayfed.data.population import Population
from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.engine.trainer import Trainer
from rayfed.errors import UserError
from rayfed.fleet.local import LocalFleet
from rayfed.methods.spec import check_memory
from rayfed.plugins import methods
from rayfed.scheduling.scheduler import Scheduler
from rayfed.tasks.gan import GanTask
from tests.methods.federation import Federation, networks

COUNTS = [[5, 3], [4, 4], [9, 0], [2, 7]]
LAN = {"kind": "lan", "hop_s": 0.05}
SLOW_ODD = [{}, {"time_factor": 1e6}]
"""A round of these networks is some 1e7 operations: milliseconds on the even devices, many minutes on the odd."""
METHODS: dict[str, dict[str, Any]] = {
    "fl-vanilla": {"name": "fl-vanilla", "fraction": 1.0},
    "ren serial": {"name": "ren", "schedule": "serial"},
    "ren parallel": {"name": "ren", "schedule": "parallel"},
    "md-gan": {"name": "md-gan", "swap_epochs": 0},
    "f2a": {"name": "f2a"},
    "asyn-dgan": {"name": "asyn-dgan"},
}


class Chosen(Scheduler):
    """Selects the even devices."""

    def select(self, round: int, state: Any) -> tuple[list[int], Any]:
        return [0, 2], state


def trainer(method: dict[str, Any], twin: dict[str, Any], scheduler: type[Scheduler] = Scheduler) -> Trainer:
    federation = Federation({"batch": 4, "iterations": 2} | method, COUNTS, twin=twin)
    config, totals = federation.config, federation.counts.sum(axis=0)
    population = Population(1, federation.counts, totals, totals)
    return Trainer(config, population, LocalFleet(federation.host), scheduler(config, federation.counts))


def run(one: Trainer, rounds: int, after: Checkpoint | None = None) -> list[Checkpoint]:
    one.start(after)
    return [one.round() for _ in range(rounds)]


def kept(checkpoints: list[Checkpoint], method: dict[str, Any]) -> Checkpoint:
    """The last checkpoint as the store would give it back: every device's last state, facts through JSON."""
    commits = [checkpoint.commit() for checkpoint in checkpoints]
    devices = {device: state for commit in commits for device, state in commit.devices.items()}
    facts = json.loads(json.dumps(commits[-1].facts, allow_nan=False))
    return checkpoint_of(replace(commits[-1], devices=devices, facts=facts), methods()[method["name"]])


def simulated(checkpoint: Checkpoint) -> dict[str, float]:
    return {name: value for name, value in checkpoint.metrics.items() if name.startswith("sim_")}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def parameters(generator: np.ndarray) -> np.ndarray:
    """A conditional generator's vector without its buffers."""
    network, _ = networks(0, classes=2)
    learnt = {name for name, _ in network.named_parameters()}
    mask = [np.full(tensor.numel(), name in learnt) for name, tensor in network.state_dict().items()]
    return generator[np.concatenate(mask)]


@pytest.mark.parametrize("label", list(METHODS))
def test_with_the_late_left_out_it_is_the_run_in_which_only_the_punctual_were_asked(label: str) -> None:
    dropping = {"devices": SLOW_ODD, "network": LAN, "deadline_s": 1.0, "drop_late": True}
    found = run(trainer(METHODS[label], dropping), 2)
    expected = run(trainer(METHODS[label], {"network": LAN}, Chosen), 2)
    for commit, other in zip(found, expected, strict=True):
        if label == "asyn-dgan":  # G has generated for the late too: its BatchNorm statistics have seen it
            assert_same(
                *(
                    {**each.state.arrays, "generator": parameters(each.state.arrays["generator"])}
                    for each in (commit, other)
                )
            )
        else:
            assert_same(commit.state.arrays, other.state.arrays)
        assert commit.participants == other.participants == (0, 2)
        assert commit.metrics["dropped"] == 2
        assert commit.metrics["sim_late"] == 2
        assert commit.metrics["loss_d"] == other.metrics["loss_d"]
    states, others = kept(found, METHODS[label]).devices, kept(expected, METHODS[label]).devices
    for device in (0, 2):
        assert_same(states[device], others[device])
    assert not states.get(1)
    assert not states.get(3)


def test_waiting_ends_at_the_deadline() -> None:
    """One exchange a round: a second of waiting, then the server's mean at 1e12 operations a second."""
    twin = {"devices": SLOW_ODD, "network": LAN, "deadline_s": 1.0}
    (dropped,) = run(trainer(METHODS["fl-vanilla"], twin | {"drop_late": True}), 1)
    assert 1 <= dropped.metrics["sim_seconds"] < 1 + 1e-5
    (waited,) = run(trainer(METHODS["fl-vanilla"], twin), 1)
    assert waited.metrics["sim_seconds"] > 100
    assert waited.metrics["sim_late"] == 2
    assert waited.participants == (0, 1, 2, 3)


@pytest.mark.parametrize("label", list(METHODS))
def test_the_late_keep_the_state_they_had(label: str) -> None:
    """A round in which all were waited for, then one in which the odd devices are late."""
    twin = {"devices": SLOW_ODD, "network": LAN}
    before = kept(run(trainer(METHODS[label], twin), 1), METHODS[label])
    after = run(trainer(METHODS[label], twin | {"deadline_s": 1.0, "drop_late": True}), 1, before)
    states = before.devices | after[-1].devices
    for device in (1, 3):
        assert before.devices[device]
        assert_same(states[device], before.devices[device])
    for device in (0, 2):
        assert any((states[device][name] != before.devices[device][name]).any() for name in states[device])


@pytest.mark.parametrize("label", list(METHODS))
def test_a_deadline_that_nobody_can_meet_is_one_clear_line(label: str) -> None:
    """Two hops of 0.05 s alone take longer."""
    one = trainer(METHODS[label], {"network": LAN, "deadline_s": 0.03, "drop_late": True})
    one.start(None)
    with pytest.raises(UserError) as caught:
        one.round()
    message = str(caught.value)
    assert message.startswith(
        "twin.deadline_s = 0.03: none of 4 devices can meet it; the fastest of the last 4 needs 0.1"
    )
    assert "\n" not in message


def test_a_first_group_that_is_late_does_not_end_the_run() -> None:
    """Round robin: only the first of four devices is slow, and it is alone in the first round."""
    twin = {"devices": [{"time_factor": 1e6}, {}, {}, {}], "network": LAN, "deadline_s": 1.0, "drop_late": True}
    method = METHODS["fl-vanilla"] | {"fraction": 0.25, "sampling": "round-robin"}
    assert [commit.participants for commit in run(trainer(method, twin), 4)] == [(), (1,), (2,), (3,)]


def test_below_the_quorum_the_round_is_abandoned() -> None:
    """One of four is on time; the quorum asks for two."""
    twin = {"devices": [{}, *[{"time_factor": 1e6}] * 3], "network": LAN, "deadline_s": 1.0, "drop_late": True}
    one = trainer(METHODS["fl-vanilla"], twin)
    before = one.start(None)
    after = one.round()
    assert_same(after.state.arrays, before.state.arrays)
    assert after.participants == ()
    assert run(trainer(METHODS["fl-vanilla"] | {"quorum": 0.25}, twin), 1)[0].participants == (0,)


SIMULATED = {
    "ren in a cell": (
        {"name": "ren", "fraction": 0.5, "sampling": "proportional-fair"},
        {"network": {"kind": "cell"}, "devices": [{"jitter": 0.3}, {"dropout": 0.3}]},
    ),
    "ren, who is late changes": (
        {"name": "ren", "schedule": "parallel", "quorum": 0.1},
        {"network": LAN, "devices": [{"time_factor": 150.0, "jitter": 1.0}], "deadline_s": 0.5, "drop_late": True},
    ),
    "md-gan swaps, who is late changes": (
        {"name": "md-gan", "swap_epochs": 0.5, "quorum": 0.1},
        {"network": LAN, "devices": [{"time_factor": 400.0, "jitter": 1.0}], "deadline_s": 0.5, "drop_late": True},
    ),
    "fegan over wires": (
        {"name": "fegan", "fraction": 0.5},
        {"devices": [{"jitter": 0.1}, {"time_factor": 5.0, "up_mbps": 1.0}]},
    ),
}


@pytest.mark.parametrize("label", list(SIMULATED))
def test_simulated_times_are_the_same_in_every_run_and_after_a_kill(label: str) -> None:
    """Four rounds, twice; and two rounds, a new trainer, two more: the same to the last digit, and the same weights."""
    method, twin = SIMULATED[label]
    whole, again = (run(trainer(method, twin), 4) for _ in range(2))
    first = run(trainer(method, twin), 2)
    resumed = first + run(trainer(method, twin), 2, kept(first, method))
    times = [simulated(commit) for commit in whole]
    assert times == [simulated(commit) for commit in again]
    assert times == [simulated(commit) for commit in resumed]
    assert all(time["sim_seconds"] > 0 for time in times)
    assert times[-1]["sim_total_seconds"] == pytest.approx(sum(time["sim_seconds"] for time in times))
    if "late changes" in label:
        assert len({commit.participants for commit in whole}) > 1 or len({t["sim_late"] for t in times}) > 1
    assert_same(whole[-1].state.arrays, resumed[-1].state.arrays)
    assert whole[-1].commit().facts == again[-1].commit().facts == resumed[-1].commit().facts
    told = [[commit.events for commit in commits] for commits in (whole, again, resumed)]
    assert told[0] == told[1] == told[2]


def test_joules_are_watts_times_the_seconds_in_which_a_device_computes_or_sends() -> None:
    """Four devices compute; where a hop takes half a second, each gets its models and sends them: 3 W of it more."""

    def joules(hop_s: float, **profile: float) -> float | None:
        twin = {"devices": [{"flops_per_s": 1e9} | profile], "network": {"kind": "lan", "hop_s": hop_s}}
        [checkpoint] = run(trainer(METHODS["fl-vanilla"], twin), 1)
        operations.append(checkpoint.metrics["flops_devices"])
        return checkpoint.metrics.get("joules")

    operations: list[float] = []
    computing = joules(0.0, watts=3.0)
    assert computing == pytest.approx(3 * operations[0] / 1e9, rel=1e-9)
    assert joules(0.5, watts=3.0) == pytest.approx(computing + 4 * 2 * 0.5 * 3, rel=1e-9)
    assert joules(0.5) is None


def test_a_method_that_swaps_needs_routes_between_devices() -> None:
    with pytest.raises(UserError) as caught:
        trainer({"name": "md-gan"}, {"network": {"kind": "cell"}})
    assert str(caught.value) == (
        "twin.network.kind = 'cell': no route between devices, and this method sends from device to device; "
        "use 'lan', or 'wired' with peers = true (or method.swap_epochs = 0)"
    )
    trainer({"name": "md-gan", "swap_epochs": 0}, {"network": {"kind": "cell"}})
    trainer({"name": "md-gan"}, {"network": LAN})


class Sized(GanTask):
    """Networks of a size that is easy to calculate with."""

    def values(self, config: RunConfig, population: Population) -> dict[str, int]:
        return {"generator": 600, "discriminator": 400, "another": 500}


TASK = Sized()
SPEC = replace(methods()["fl-vanilla"], task_name=f"{__name__}:TASK", holds=("another",))
CLASSES = np.array([2, 2])
TWO = Population(1, np.array([[1, 1], [1, 1]]), CLASSES, CLASSES)


def test_a_device_without_room_for_the_models_is_named() -> None:
    """1,000 trained values of 4 bytes, their gradients and two moments, 500 that are only read: 18,000 bytes."""
    tree = {"method": METHODS["fl-vanilla"] | {"name": f"{__name__}:SPEC"}, "devices": {"count": 2}}
    check_memory(parse(tree | {"twin": {"devices": [{"memory": 18_000}]}}), TWO)
    with pytest.raises(UserError) as caught:
        check_memory(parse(tree | {"twin": {"devices": [{}, {"memory": 17_999}]}}), TWO)
    assert str(caught.value).startswith(f"twin.devices.1.memory = 17999: {__name__}:SPEC needs 18000 bytes on a device")


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("fl-vanilla", 4 * 4 * (85_687 + 4_385)),
        ("md-gan", 4 * 4 * 4_385),
        ("ren", 4 * 4 * 4_385 + 4 * 85_687),
    ],
)
def test_what_devices_train_and_hold_is_the_methods(method: str, needed: int) -> None:
    """Of dcgan28 at width 4, whose G has 85,687 values and whose D 4,385; REN's devices hold a G that they read."""
    section = {"name": method} | ({} if method == "md-gan" else {"fraction": 1.0})
    tree = {"method": section, "devices": {"count": 2}, "model": {"name": "dcgan28", "width": 4}}
    check_memory(parse(tree | {"twin": {"devices": [{"memory": needed}]}}), TWO)
    with pytest.raises(
        UserError, match=rf"^twin\.devices\.0\.memory = {needed - 1}: {method} needs {needed} bytes on a "
    ):
        check_memory(parse(tree | {"twin": {"devices": [{"memory": needed - 1}]}}), TWO)
