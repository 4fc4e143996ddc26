"""Routes and fair shares."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfed.config.simulation import Cell, Lan, Profile, Twin, Wired
from rayfed.errors import UserError
from rayfed.seeding import SERVER
from rayfed.twin.flows import binding, fair_rates
from rayfed.twin.network import Network


def network(model: Lan | Wired | Cell, *profiles: Profile, devices: int = 10) -> Network:
    return Network(Twin(devices=list(profiles) or [Profile()], network=model), devices, seed=0)


def bps(net: Network, source: int, destination: int, broadcast: bool = False, scheduled: int = 1) -> list[float]:
    return [capacity for _, capacity in net.route(source, destination, broadcast, scheduled).resources]


def test_a_lan_is_one_hop_for_all() -> None:
    net = network(Lan(hop_s=0.05), Profile(), Profile(latency_s=0.2, up_mbps=3))
    assert net.route(0, 2, False, 1).resources == ()
    assert net.route(0, 2, False, 1).latency_s == 0.05
    assert net.route(0, 1, False, 1).latency_s == 0.2
    assert bps(net, 1, 0) == [3e6]
    assert net.rates(1)[0] == math.inf
    net.check(peers=True)


def test_a_wired_star() -> None:
    net = network(Wired(), Profile(), Profile(up_mbps=5, down_mbps=7, latency_s=0.1))
    assert bps(net, 0, SERVER) == [20e6, 1000e6]
    assert bps(net, SERVER, 0) == [1000e6, 50e6]
    assert bps(net, 0, 1) == [20e6, 7e6]
    assert net.route(0, SERVER, False, 1).latency_s == 0.02
    assert net.route(0, 1, False, 1).latency_s == pytest.approx(0.12)
    assert net.rates(3).tolist() == [20e6, 5e6] * 5
    names = [name for ends in ((0, 1), (2, 1), (1, 0), (1, SERVER)) for name, _ in net.route(*ends, False, 1).resources]
    assert names == ["up 0", "down 1", "up 2", "down 1", "up 1", "down 0", "up 1", "down -1"]


def test_a_cell_shares_its_band_among_the_scheduled() -> None:
    # A disc of half a metre: every device counts as 1 m away, path loss 128.1 - 37.6 * 3 = 15.3 dB.
    net = network(Cell(radius_m=0.5))
    # 10 MHz (noise -104 dBm): SNR = 24 - 15.3 + 104 = 112.7 dB; / 10 * log2(10) = 37.4381 bit; * 10 MHz
    assert bps(net, 3, SERVER, scheduled=1) == pytest.approx([374.381e6], rel=1e-5)
    # Half the band has half the noise, one bit more: 38.4381 * 5 MHz
    assert bps(net, 3, SERVER, scheduled=2) == pytest.approx([192.191e6], rel=1e-5)
    # A tenth: 122.7 dB = 40.7601 bit; * 1 MHz
    assert bps(net, 3, SERVER, scheduled=10) == pytest.approx([40.7601e6], rel=1e-5)
    assert net.rates(10) == pytest.approx(np.full(10, 40.7601e6), rel=1e-5)
    # The server's 46 dBm over the whole band, whoever is scheduled: 134.7 dB = 44.7464 bit; * 10 MHz
    assert bps(net, SERVER, 3, broadcast=True, scheduled=10) == pytest.approx([447.464e6], rel=1e-5)
    # ... and over a tenth: 144.7 dB = 48.0683 bit; * 1 MHz
    assert bps(net, SERVER, 3, scheduled=10) == pytest.approx([48.0683e6], rel=1e-5)


def test_a_nearer_device_has_the_better_channel() -> None:
    net = network(Cell())
    assert np.argsort(net.rates(2)).tolist() == np.argsort(-np.array(net.distances)).tolist()


@pytest.mark.parametrize(
    ("model", "start"),
    [
        (Cell(), "twin.network.kind = 'cell': no route between devices"),
        (Wired(peers=False), "twin.network.kind = 'wired' with peers = false: no route between devices"),
    ],
)
def test_no_route_between_devices(model: Wired | Cell, start: str) -> None:
    net = network(model)
    net.check(peers=False)
    with pytest.raises(UserError, match="use 'lan', or 'wired' with peers = true") as caught:
        net.check(peers=True)
    assert str(caught.value).startswith(start)
    with pytest.raises(UserError):
        net.route(0, 1, False, 2)


def test_fair_rates_by_hand() -> None:
    # Links: (none), server 10, devices 2, 50, 50. The first is held to 2 by its own link; the others halve 8.
    rates = fair_rates(np.array([math.inf, 10, 2, 50, 50]), np.array([[1, 2], [1, 3], [1, 4]]))
    assert rates.tolist() == [2, 4, 4]
    # A chain: link 1 (6) carries a, b; link 2 (10) carries b, c. a = b = 3, c = 10 - 3.
    assert fair_rates(np.array([math.inf, 6, 10]), np.array([[1, 0], [1, 2], [2, 0]])).tolist() == [3, 3, 7]


SOME_LINKS = [(f"{k}", float(bps)) for k, bps in enumerate([3, 5, 7, 7, 20, 1000])]
ROUTES = st.lists(
    st.lists(st.sampled_from(SOME_LINKS), min_size=1, max_size=2, unique=True).map(tuple), min_size=1, max_size=12
)


def rates_of(routes: list[tuple[tuple[str, float], ...]]) -> np.ndarray:
    uses = np.array([[1 + SOME_LINKS.index(link) for link in links] + [0] * (2 - len(links)) for links in routes])
    return fair_rates(np.array([math.inf, *(capacity for _, capacity in SOME_LINKS)]), uses)


@given(ROUTES)
def test_max_min_fair(routes: list[tuple[tuple[str, float], ...]]) -> None:
    """The definition: no link carries more than it can, each flow has a full link on which none is faster."""
    rates = rates_of(routes)
    load = {link: sum(r for r, links in zip(rates, routes, strict=True) if link in links) for link in SOME_LINKS}
    assert all(load[link] <= link[1] * (1 + 1e-9) for link in SOME_LINKS)
    for rate, links in zip(rates, routes, strict=True):
        full = [link for link in links if load[link] >= link[1] * (1 - 1e-9)]
        fastest = {link: max(r for r, ls in zip(rates, routes, strict=True) if link in ls) for link in full}
        assert any(rate >= fastest[link] * (1 - 1e-9) for link in full)


@given(ROUTES)
def test_links_left_out_never_bind(routes: list[tuple[tuple[str, float], ...]]) -> None:
    assert all(kept for kept in binding(routes))
    assert rates_of(binding(routes)) == pytest.approx(rates_of(routes))
