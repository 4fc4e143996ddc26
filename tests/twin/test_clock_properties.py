"""The clock: what holds for any exchange."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfed.config.simulation import Wired
from rayfed.fleet.ledger import Collect, Event, Ledger, Share
from tests.twin.events import call, clock, replay, shared

JOBS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 40), st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=12
)
"""(device, Mbit down, seconds, Mbit up) of calls."""
WIRES = st.builds(
    Wired,
    up_mbps=st.sampled_from([1.0, 7.0]),
    down_mbps=st.sampled_from([2.0, 9.0]),
    latency_s=st.sampled_from([0.0, 0.25]),
    server_up_mbps=st.sampled_from([3.0, 100.0]),
    server_down_mbps=st.sampled_from([4.0, 100.0]),
)


def exchange(jobs: list[tuple[int, int, int, int]], first: int = 0) -> list[Event]:
    ids = range(first, first + len(jobs))
    calls = [
        call(id, device, seconds, shared(down, handle=first), reply=up)
        for id, (device, down, seconds, up) in zip(ids, jobs, strict=True)
    ]
    return [Share(first), *calls, Collect(tuple(ids))]


@settings(deadline=None)
@given(JOBS, WIRES)
def test_bounds(jobs: list[tuple[int, int, int, int]], wires: Wired) -> None:
    times = replay(clock(wires), *exchange(jobs))
    down, up = min(wires.down_mbps, wires.server_up_mbps), min(wires.up_mbps, wires.server_down_mbps)
    alone = [
        d / down + seconds + u / up + wires.latency_s * (bool(d) + bool(u)) for _, d, seconds, u in jobs
    ]  # each over its narrowest links, nobody else there
    assert all(times.arrivals[k] >= least * (1 - 1e-9) for k, least in enumerate(alone))
    assert times.seconds >= sum(d for _, d, _, _ in jobs) / wires.server_up_mbps * (1 - 1e-9)
    assert times.seconds >= sum(u for _, _, _, u in jobs) / wires.server_down_mbps * (1 - 1e-9)
    for device in times.computed:
        busy = sum(seconds for k, _, seconds, _ in jobs if k == device)
        assert times.computed[device] == pytest.approx(busy)
        assert times.seconds >= sum(u for k, _, _, u in jobs if k == device) / wires.up_mbps * (1 - 1e-9)
    assert times.seconds <= sum(alone) * (1 + 1e-9)  # something is always under way


@settings(deadline=None)
@given(JOBS, JOBS, WIRES)
def test_exchanges_in_one_round_or_two(
    first: list[tuple[int, int, int, int]], second: list[tuple[int, int, int, int]], wires: Wired
) -> None:
    """When everything is collected nothing is under way, and a round may end there."""
    twin, one, two = clock(wires), exchange(first), exchange(second, first=100)
    whole = replay(twin, *one, *two)
    halfway, state = twin.replay(Ledger(one), 0, twin.start())
    rest, after = twin.replay(Ledger(two), 1, state)
    assert halfway.seconds + rest.seconds == pytest.approx(whole.seconds)
    assert after["now"] == pytest.approx(whole.end)
    assert {**halfway.arrivals, **rest.arrivals} == pytest.approx(whole.arrivals)
