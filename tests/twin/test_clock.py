"""The clock: seconds worked out by hand."""

import json
import math

import pytest

from rayfed.config.simulation import Cell, Lan, Profile, Wired
from rayfed.errors import UserError
from rayfed.fleet.ledger import Collect, Ledger, Mark, Share
from rayfed.seeding import SERVER, generator
from tests.twin.events import GIGA, call, clock, replay, reply_of, shared, work


def test_a_chain_over_a_lan() -> None:
    chain = [Share(1), call(1, 0, 2, shared(8)), call(2, 1, 1, reply_of(1, 0, 8), reply=8), Collect((2,))]
    times = replay(clock(Lan(hop_s=0.05)), *chain)
    # hop, 2 s, hop to device 1, 1 s, hop back
    assert times.seconds == pytest.approx(0.05 + 2 + 0.05 + 1 + 0.05)
    assert times.computed == pytest.approx({0: 2, 1: 1})
    assert times.sent == pytest.approx({0: 0.1, 1: 0.1})
    assert times.waited == pytest.approx({0: 3.15 - 2.1, 1: 3.15 - 1.1})
    assert times.link_bytes == {(SERVER, 0): 10**6, (0, 1): 10**6, (1, SERVER): 10**6}
    assert times.arrivals == pytest.approx({2: 3.15})
    assert times.missed == []


def test_a_chain_over_wires() -> None:
    wires = Wired(up_mbps=8, down_mbps=16, latency_s=0.1)
    chain = [Share(1), call(1, 0, 2, shared(16)), call(2, 1, 1, reply_of(1, 0, 8), reply=8), Collect((2,))]
    # 16 Mbit down at 16: 1 + 0.1; 2 s; 8 Mbit up at 8 and down at 16: 1 + 2 * 0.1; 1 s; 8 Mbit up: 1 + 0.1
    assert replay(clock(wires), *chain).seconds == pytest.approx(1.1 + 2 + 1.2 + 1 + 1.1)


def test_what_stays_on_a_node_takes_no_time() -> None:
    events = [call(1, 3, 1), call(2, 3, 1, reply_of(1, 3, 100)), call(3, SERVER, 1, shared(100), reply=100)]
    times = replay(clock(Wired(latency_s=1)), *events, Collect((2, 3)))
    assert times.seconds == pytest.approx(2)
    assert times.link_bytes == {}


@pytest.mark.parametrize("devices", [4, 200])
def test_fan_out_and_fan_in_through_the_servers_link(devices: int) -> None:
    wires = Wired(up_mbps=50, down_mbps=50, latency_s=0, server_up_mbps=10, server_down_mbps=5)
    calls = [call(k, k, 1, shared(10), reply=10) for k in range(devices)]
    times = replay(clock(wires, devices=devices), Share(1), *calls, Collect(tuple(range(devices))))
    # n * 10 Mbit at 10 Mbit/s, 1 s, n * 10 Mbit at 5 Mbit/s; all at once
    assert times.seconds == pytest.approx(devices * 1 + 1 + devices * 2)
    assert set(times.arrivals.values()) == {times.seconds}


def test_when_one_flow_ends_the_other_speeds_up() -> None:
    wires = Wired(down_mbps=8, latency_s=0, server_up_mbps=10)
    calls = [call(0, 0, 0, shared(10)), call(1, 1, 0, shared(30))]
    times = replay(clock(wires), Share(1), *calls, Collect((0, 1)))
    # 5 Mbit/s each until 10 Mbit are over at 2 s; then 20 Mbit are left at the device's own 8: 2.5 s
    assert times.arrivals == pytest.approx({0: 2, 1: 4.5})


def test_a_devices_link_serves_device_and_server() -> None:
    wires = Wired(up_mbps=10, down_mbps=100, latency_s=0)
    events = [call(1, 0, 0, reply=10), call(2, 1, 0, reply_of(1, 0, 10)), Collect((1, 2))]
    # Both copies of device 0's reply leave by its uplink at 5 Mbit/s each
    assert replay(clock(wires), *events).arrivals == pytest.approx({1: 2, 2: 2})


@pytest.mark.parametrize(
    ("scheduled", "up_mbps"),
    # 1 m away: 112.7 dB over 10 MHz = 37.43813 bit/s/Hz; a band of 1/n has log2(n) more (see test_network)
    [(1, 10 * 37.43813), (2, 5 * 38.43813), (10, 1 * 40.76006)],
)
def test_a_cells_band_is_shared_by_the_scheduled(scheduled: int, up_mbps: float) -> None:
    calls = [call(k, k, 1, shared(447.4637), reply=80) for k in range(scheduled)]
    times = replay(clock(Cell(radius_m=0.5)), Share(1), *calls, Collect(tuple(range(scheduled))))
    # The broadcast takes 1 s at 447.4637 Mbit/s, however many listen
    assert times.seconds == pytest.approx(1 + 1 + 80 / up_mbps, rel=1e-5)


def test_two_broadcasts_to_a_device_share_its_channel() -> None:
    one = call(1, 0, 0, shared(447.4637, 1), shared(447.4637, 2))
    assert replay(clock(Cell(radius_m=0.5)), Share(1), Share(2), one, Collect((1,))).seconds == pytest.approx(
        2, rel=1e-5
    )


def test_parallel_schedule_is_the_slower_of_the_two_sides() -> None:
    for device_s, server_s in ((3, 1), (1, 3)):
        times = replay(clock(Lan(hop_s=0)), call(1, 0, device_s, reply=1), work(server_s), Collect((1,)))
        assert times.seconds == pytest.approx(3)


def test_the_server_computes_one_thing_at_a_time() -> None:
    times = replay(clock(Lan(hop_s=0)), call(1, SERVER, 2), call(2, SERVER, 1), work(3), Collect((1, 2)))
    assert times.seconds == pytest.approx(6)


@pytest.mark.parametrize(
    ("since", "phi_mbit", "seconds"),
    [
        # phi is ready at 1 s and over at 2 s, while G computes until 4 s; theta's 20 Mbit take 2 s; 1 s of compute
        ("phi", 10, 4 + 2 + 1),
        # from 4 s both: 30 Mbit over the 10 Mbit/s link
        (None, 10, 4 + 3 + 1),
        # from 1 s 30 of 50 Mbit by 4 s; the other 20 and theta's 20 at 5 Mbit/s each
        ("phi", 50, 4 + 4 + 1),
    ],
)
@pytest.mark.parametrize("rounds", [1, 2])
def test_phi_is_broadcast_while_the_server_computes_g(
    since: str | None, phi_mbit: float, seconds: float, rounds: int
) -> None:
    server = [work(1), Mark("phi"), work(3)]
    exchange = [Share(1, since), Share(2), call(1, 0, 1, shared(phi_mbit, 1), shared(20, 2)), Collect((1,))]
    twin = clock(Wired(down_mbps=10, latency_s=0))
    if rounds == 1:
        assert replay(twin, *server, *exchange).seconds == pytest.approx(seconds)
        return
    first, state = twin.replay(Ledger(server), 0, twin.start())
    second, after = twin.replay(Ledger(exchange), 1, json.loads(json.dumps(state)))
    assert first.seconds == pytest.approx(4)
    assert second.seconds == pytest.approx(seconds - 4)
    assert second.end == after["now"] == pytest.approx(seconds)
    assert after["marks"] == {"phi": 1.0}


def test_a_mark_nobody_made_is_now() -> None:
    events = [work(1), Share(1, "never"), call(1, 0, 0, shared(20)), Collect((1,))]
    assert replay(clock(Wired(down_mbps=10, latency_s=0)), *events).seconds == pytest.approx(1 + 2)


def test_slower_devices() -> None:
    slow, half = Profile(flops_per_s=1e9, time_factor=2.5), Profile(flops_per_s=5e8)
    calls = [call(k, k, 1) for k in range(3)]
    times = replay(clock(Lan(), GIGA, slow, half), *calls, Collect((0, 1, 2)))
    assert times.arrivals == pytest.approx({0: 1, 1: 2.5, 2: 2})
    assert replay(clock(Lan(), slow, compute=0.5), call(1, 0, 1), Collect((1,))).seconds == pytest.approx(5)


def test_jitter_is_keyed_by_seed_round_device_and_index() -> None:
    twin = clock(Lan(), Profile(flops_per_s=1e9, jitter=0.5))
    ledger = Ledger([call(1, 2, 1), call(2, 4, 1), call(3, 2, 1), Collect((1, 2, 3))])
    first, again, other = (twin.replay(ledger, round, twin.start())[0] for round in (1, 1, 2))
    assert first == again
    one, two = generator(5, 1, 2, "jitter").standard_normal(2)
    assert first.computed[2] == pytest.approx(math.exp(0.5 * one) + math.exp(0.5 * two))
    assert len({first.computed[2], first.computed[4], other.computed[2], other.computed[4]}) == 4


def test_a_deadline_tells_who_missed_it() -> None:
    calls = [call(k, k, seconds) for k, seconds in enumerate((1, 2, 3))]
    times = replay(clock(Lan(), deadline_s=2), work(1), *calls, Collect((0, 1, 2)), *calls[:1], Collect((0,)))
    # An exchange starts with the round: 1 s of the server's counts, so 2 s of compute are 3 s
    assert times.missed == [1, 2]
    assert times.arrivals == pytest.approx({0: 2, 1: 3, 2: 4})


def test_late_devices_are_dropped_and_busy_in_the_next_round() -> None:
    twin = clock(Lan(hop_s=0), deadline_s=2, drop_late=True)
    both = Ledger([call(0, 0, 2), call(1, 1, 5), Collect((0, 1))])
    first, state = twin.replay(both, 0, twin.start())
    assert (first.seconds, first.missed, first.arrivals) == (2, [1], {0: 2, 1: 5})
    assert (first.computed, first.waited) == ({0: 2, 1: 2}, {0: 0, 1: 0})
    assert state["busy"] == {"1": 5.0}
    second, after = twin.replay(both, 1, state)
    assert second.arrivals == {0: 2, 1: 3 + 5}
    assert second.computed == {0: 2, 1: 2}
    assert (state["now"], after["now"], after["busy"]) == (2.0, 4.0, {"1": 10.0})


def test_exchanges_of_a_round_have_a_deadline_each() -> None:
    events = [call(0, 0, 5), Collect((0,)), call(1, 1, 1), Collect((1,)), work(4), call(2, 2, 1), Collect((2,))]
    times = replay(clock(Lan(hop_s=0), deadline_s=2, drop_late=True), *events)
    # 2 s (dropped), 1 s, 4 s of the server after which the deadline is past at once
    assert times.seconds == pytest.approx(2 + 1 + 4)
    assert times.missed == [0, 2]


def test_no_route() -> None:
    with pytest.raises(UserError, match="no route between devices"):
        replay(clock(Cell()), call(1, 0, 1), call(2, 1, 1, reply_of(1, 0, 1)))


def test_an_empty_round() -> None:
    assert replay(clock(Lan())).seconds == 0
