"""Placements against every placement there is, the paper's table, and times written out by hand."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfed.config.clients import Client, Device
from rayfed.config.table import load_table
from rayfed.errors import UserError
from rayfed.scheduling.placement import MAX_DEVICES, all_plans, optimal, pipelined, relevant
from rayfed.scheduling.portions import (
    HEURISTICS,
    Plan,
    Workload,
    by_efficiency,
    dropped_devices,
    evaluate,
    heuristics,
    misfit,
)

PAPER = load_table(Path(__file__).parents[2] / "jobs" / "devices" / "paper.csv")
PORTIONS = Workload(("A", "B", "C"), (1_664, 204_928, 823_553), (0.1, 3.0, 4.0), (12_000_000, 6_000_000, 4))
"""The paper's parameters; seconds and bytes of ours, easy to add up."""


def client(*devices: tuple[float, ...], name: str = "it") -> Client:
    """From (capacity, time factor[, up, down])."""
    keys = "capacity", "time_factor", "up_mbps", "down_mbps"
    return Client(
        name=name,
        devices=tuple(Device(name=str(k), **dict(zip(keys, each, strict=False))) for k, each in enumerate(devices)),
    )


def placements(portions: int, devices: int) -> Iterator[tuple[int, ...]]:
    """Every assignment in which no device has two runs."""
    for runs in range(1, min(portions, devices) + 1):
        for cuts in combinations(range(1, portions), runs - 1):
            ends = [0, *cuts, portions]
            for order in permutations(range(devices), runs):
                yield tuple(d for d, a, b in zip(order, ends, ends[1:], strict=False) for _ in range(a, b))


def stage_seconds(it: Client, work: Workload, assignment: tuple[int, ...]) -> list[float] | None:
    """The cost model in plain words; None where a device cannot hold its portions."""
    stages: list[float] = []
    for d in dict.fromkeys(assignment):
        mine = [p for p, holder in enumerate(assignment) if holder == d]
        device, last = it.devices[d], mine[-1]
        if sum(work.parameters[p] for p in mine) > device.capacity:
            return None
        seconds = sum(work.compute_s[p] for p in mine) * device.time_factor
        if last + 1 < len(assignment):
            other, megabits = it.devices[assignment[last + 1]], work.nbytes[last] * 8 / 1e6
            seconds += work.hop_s + megabits / min(device.up_mbps or inf, other.down_mbps or inf)
            seconds += work.hop_s + megabits / min(other.up_mbps or inf, device.down_mbps or inf)
        stages.append(seconds)
    return stages


def random_client(rng: np.random.Generator, devices: int) -> Client:
    """Small whole numbers, so that ties and devices that are better in everything are common."""
    rows = [
        (int(rng.integers(1, 12)), float(rng.integers(1, 6)), *rng.choice([1.0, 4.0, 20.0], 2)) for _ in range(devices)
    ]
    unlimited = rng.random() < 0.3
    return client(*(row[:2] if unlimited else row for row in rows))


def random_workload(rng: np.random.Generator, portions: int) -> Workload:
    return Workload(
        names=("",) * portions,
        parameters=tuple(rng.integers(1, 6, portions).tolist()),
        compute_s=tuple(rng.uniform(0, 1, portions).tolist()),
        nbytes=tuple(rng.integers(0, 200_000, portions).tolist()),
    )


def test_the_exact_plans_are_the_best_of_all() -> None:
    """On 400 random clients: the fastest step; the fastest slowest stage, and of those the fastest step."""
    rng = np.random.default_rng(0)
    for _ in range(400):
        it = random_client(rng, int(rng.integers(1, 7)))
        assert_exact(it, random_workload(rng, int(rng.integers(1, 5))))


def assert_exact(it: Client, work: Workload) -> None:
    every = [stages for a in placements(work.portions, len(it.devices)) if (stages := stage_seconds(it, work, a))]
    (fastest,), (flowing,) = optimal([it], work), pipelined([it], work)
    if not every:
        assert fastest is flowing is None
        return
    assert fastest is not None
    assert flowing is not None
    assert fastest.step_seconds == pytest.approx(min(sum(stages) for stages in every), rel=1e-12)
    slowest = min(max(stages) for stages in every)
    assert flowing.bottleneck_seconds == pytest.approx(slowest, rel=1e-12)
    ties = [sum(stages) for stages in every if max(stages) <= slowest * (1 + 1e-12)]
    assert flowing.step_seconds == pytest.approx(min(ties), rel=1e-12)
    for plan in (fastest, flowing):
        stages = stage_seconds(it, work, plan.assignment)
        assert stages == pytest.approx([stage.seconds for stage in plan.stages])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 10), st.sampled_from([0.0, 0.05, 3.0]))
def test_exact_plans_are_never_slower_than_the_heuristics(seed: int, devices: int, portions: int, hop: float) -> None:
    """10,000 random clients, 100 at a time, and none without a plan where a heuristic has one."""
    rng = np.random.default_rng(seed)
    work = replace(random_workload(rng, portions), hop_s=hop)
    assert all(never_slower(*each) for each in compared([random_client(rng, devices) for _ in range(100)], work, rng))


def test_optimal_is_often_faster_than_a_heuristic() -> None:
    """By more than 1%, on 10,000 random clients of 5 devices with four heuristics each."""
    rng, wins = np.random.default_rng(0), 0
    for portions in range(1, 11):
        work = random_workload(rng, portions)
        for best, flowing, plan in compared([random_client(rng, 5) for _ in range(1_000)], work, rng):
            assert never_slower(best, flowing, plan)
            wins += best.step_seconds < plan.step_seconds * 0.99
    assert wins > 5_000


def compared(clients: list[Client], work: Workload, rng: np.random.Generator) -> Iterator[tuple[Plan, Plan, Plan]]:
    """Each heuristic's plan for each client, behind the client's two exact ones, which must be there."""
    for it, best, flowing in zip(clients, optimal(clients, work), pipelined(clients, work), strict=True):
        for plan in filter(None, heuristics(it, work, rng).values()):
            assert best is not None
            assert flowing is not None
            yield best, flowing, plan


def never_slower(best: Plan, flowing: Plan, plan: Plan) -> bool:
    """Whether a plan beats neither exact one, but for rounding."""
    steps = best.step_seconds <= plan.step_seconds * (1 + 1e-12)
    return steps and flowing.bottleneck_seconds <= plan.bottleneck_seconds * (1 + 1e-12)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 8), st.sampled_from([0.0, 0.05, 3.0]))
def test_every_plan_is_one_run_per_device_within_its_capacity(
    seed: int, devices: int, portions: int, hop: float
) -> None:
    rng = np.random.default_rng(seed)
    it, work = random_client(rng, devices), replace(random_workload(rng, portions), hop_s=hop)
    found = [*heuristics(it, work, rng).values(), *optimal([it], work), *pipelined([it], work)]
    for plan in filter(None, found):
        assert [p for stage in plan.stages for p in stage.portions] == list(range(portions))
        assert len({stage.device for stage in plan.stages}) == len(plan.stages)
        for stage in plan.stages:
            assert stage.parameters == sum(work.parameters[p] for p in stage.portions)
            assert stage.parameters <= it.devices[stage.device].capacity


def test_the_paper_s_sixth_client_alone_is_dropped() -> None:
    plans = [heuristics(it, PORTIONS, np.random.default_rng(0)) for it in PAPER]
    assert [all(each.values()) for each in plans] == [True] * 5 + [False]
    assert [plan is not None for plan in optimal(PAPER, PORTIONS)] == [True] * 5 + [False]
    assert set(plans[5].values()) == {None}
    assert [dropped_devices(it, PORTIONS) for it in PAPER] == [[]] * 5 + [[0, 1, 2, 3]]
    assert misfit(PAPER[5], PORTIONS) == ("none of its devices can hold a portion: the smallest has 1,664 parameters")


def test_times_by_hand() -> None:
    """Seconds are 0.1, 3 and 4 at time factor 1; a hop is 0.05 s, and there is one each way between two devices."""
    first, fifth = (heuristics(PAPER[k], PORTIONS, np.random.default_rng(0)) for k in (0, 4))

    # Client 1: a cannot hold everything (100,000 / 3), of the others b has the least time factor (2), then c (2.5), d.
    assert by_efficiency(PAPER[0], PORTIONS) == [1, 2, 3, 0]
    assert seconds(first["sorted_multiple"]) == pytest.approx(2 * (0.1 + 3 + 4))
    assert seconds(first["sorted_single"]) == pytest.approx(2 * 0.1 + 2.5 * 3 + 4 * 4 + 4 * 0.05)
    assert first["sorted_single"].assignment == (1, 2, 3)
    assert seconds(optimal(PAPER, PORTIONS)[0]) == pytest.approx(14.2)

    # Client 5: 900,000 / 1.67 is more than 1,030,145 / 2, so a comes first; it holds A and B, and C no more.
    assert by_efficiency(PAPER[4], PORTIONS) == [0, 1, 2, 3]
    assert fifth["sorted_multiple"].assignment == (0, 0, 1)
    assert seconds(fifth["sorted_multiple"]) == pytest.approx(1.67 * (0.1 + 3) + 2 * 4 + 2 * 0.05)
    # Better: b takes A and B and leaves the 4 s of C to a, for 12.98 s instead of 13.277 s, or 14.2 s on b alone.
    best = optimal(PAPER, PORTIONS)[4]
    assert best is not None
    assert best.assignment == (1, 1, 0)
    assert best.step_seconds == pytest.approx(2 * (0.1 + 3) + 1.67 * 4 + 2 * 0.05)
    assert best.bottleneck_seconds == pytest.approx(1.67 * 4)
    assert best.nbytes == 2 * 6_000_000


def seconds(plan: Plan | None) -> float:
    assert plan is not None
    return plan.step_seconds


def test_bytes_go_at_the_slower_of_the_sender_s_up_and_the_receiver_s_down() -> None:
    """12 MB are 96 Mbit: at min(8, 48) = 8 Mbit/s 12 s there, at min(96, 24) = 24 Mbit/s 4 s back."""
    it = client((2_000, 1, 8, 24), (2_000_000, 1, 96, 48))
    plan = evaluate(it, PORTIONS, (0, 1, 1))
    assert [stage.exchange_s for stage in plan.stages] == [pytest.approx(0.05 + 12 + 0.05 + 4), 0]
    assert plan.stages[0].nbytes == plan.nbytes == 24_000_000


def test_strategies_fill_devices_in_turn_and_pass_over_what_is_too_small() -> None:
    work = Workload(("",) * 4, (3, 3, 1, 1), (1.0,) * 4, (0,) * 4)
    it = client((4, 1), (2, 1), (9, 9), (1, 0.1))  # min(capacity, 8) / time factor: 4, 2, 0.9, 10
    assert by_efficiency(it, work) == [3, 0, 1, 2]
    plans = heuristics(it, work, np.random.default_rng(0))
    # The device of 1 holds no 3; the one of 4 holds one; the one of 2 none; the one of 9 the other three.
    assert plans["sorted_multiple"] is not None
    assert plans["sorted_multiple"].assignment == (0, 2, 2, 2)
    assert plans["sorted_single"] is None


def test_random_orders_follow_the_seed() -> None:
    one, same, other = (all_plans(PAPER, PORTIONS, seed) for seed in (0, 0, 1))
    assert one == same
    assert list(one["1"]) == [*HEURISTICS, "optimal", "pipelined"]
    names = [name for name in one["1"] if any(one[it.name][name] != other[it.name][name] for it in PAPER)]
    assert names == ["random_single", "random_multiple"]


def test_devices_that_enough_others_outdo_are_left_out() -> None:
    """With two portions two better devices are enough; of equal devices the first count as better."""
    two = Workload(("", ""), (5, 5), (1.0, 1.0), (0, 0))
    assert relevant(client((5, 1), (5, 2), (5, 3), (10, 3), (4, 1), (5, 1, 1, 1)), two) == [0, 1, 3, 5]
    assert relevant(client(*[(5, 1)] * 9), two) == [0, 1]


def test_too_many_devices_that_matter_are_refused() -> None:
    it = client(*((10 + k, 1 + k) for k in range(MAX_DEVICES + 1)))
    work = Workload(("",), (1,), (1.0,), (0,))
    assert optimal([it], work) != [None]  # the first is the fastest and holds it: no other matters
    work = Workload(("",) * 20, (1,) * 20, (1.0,) * 20, (0,) * 20)
    with pytest.raises(
        UserError, match=f"client it: 15 devices, any of which may matter; the exact plan takes {MAX_DEVICES}"
    ):
        optimal([it], work)


@pytest.mark.parametrize(
    ("capacities", "reason"),
    [
        ((10,), "none of its devices can hold a portion: the smallest has 1,664 parameters"),
        ((500_000, 500_000), "none of its devices can hold portion 3, which has 823,553 parameters"),
        ((10, 823_553), "its devices cannot hold the discriminator's 1,030,145 parameters, portion after portion"),
    ],
)
def test_why_a_client_is_dropped(capacities: tuple[int, ...], reason: str) -> None:
    it = client(*((capacity, 1) for capacity in capacities))
    assert optimal([it], PORTIONS) == pipelined([it], PORTIONS) == [None]
    assert misfit(it, PORTIONS) == reason
    with pytest.raises(UserError, match=f"^no client fits; client it: {reason}$"):
        all_plans([it], PORTIONS, 0)


def test_a_thousand_clients_take_seconds() -> None:
    """8 devices and 12 portions each, no device outdone: seconds of this process's own."""
    rng = np.random.default_rng(0)
    clients = [client(*rng.uniform((5, 0.5, 1, 1), (30, 5, 50, 50), (8, 4))) for _ in range(1_000)]
    began = time.process_time()
    plans = optimal(clients, random_workload(rng, 12))
    assert time.process_time() - began < 5
    assert sum(plan is not None for plan in plans) > 900
