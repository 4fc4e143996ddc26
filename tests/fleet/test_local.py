"""The local fleet and its ledger, on devices small enough to count by hand."""

from dataclasses import replace

import numpy as np

from rayfed.fleet.host import Host
from rayfed.fleet.ledger import Call, Collect, Input, Ledger, Mark, Share, Transfer, Work
from rayfed.fleet.local import LocalFleet
from rayfed.seeding import SERVER

TWO = {"other": 16}
"""Two float64 values that no codec has packed."""


class Adder:
    """Keeps a running sum of what it is given and replies with it."""

    def __init__(self, number: int, state: dict) -> None:
        self.state = state

    def add(self, values: np.ndarray) -> np.ndarray:
        self.state = {"sum": self.state.get("sum", 0) + values}
        return self.state["sum"]


def fleet() -> LocalFleet:
    return LocalFleet(Host(Adder))


def test_each_call_sees_the_state_the_devices_last_call_left() -> None:
    local = fleet()
    ones = local.share(np.ones(2))
    first, second = local.submit(3, "add", ones), local.submit(3, "add", ones)
    other = local.submit(4, "add", ones)
    replies = local.collect([second, other, first])
    assert [reply.tolist() for reply in replies] == [[2, 2], [1, 1], [1, 1]]


def test_restored_states_go_on_where_they_were() -> None:
    local = fleet()
    local.restore({3: {"sum": np.full(2, 10.0)}})
    assert local.collect([local.submit(3, "add", np.ones(2))])[0].tolist() == [11, 11]


def test_changed_gives_the_devices_since_last_time() -> None:
    local = fleet()
    for device in (5, 2):
        local.submit(device, "add", np.ones(2))
    assert list(local.changed()) == [2, 5]
    assert local.changed() == {}


def test_the_ledger_counts_links_by_hand() -> None:
    """Server to 0 (16 bytes), 0 to 1 without the server (16), 1 to server (16); 0's reply is never collected."""
    local = fleet()
    first = local.submit(0, "add", local.share(np.ones(2)))
    second = local.submit(1, "add", first)
    local.collect([second])
    ledger = local.settle()
    assert ledger.transfers == [Transfer(0, SERVER, 0, TWO), Transfer(1, 0, 1, TWO), Transfer(1, 1, SERVER, TWO)]
    assert (ledger.bytes_down, ledger.bytes_across, ledger.bytes_up) == (16, 16, 16)
    assert ledger.bytes_by_device() == {0: 32, 1: 32}
    assert [call.device for call in ledger.calls] == [0, 1]


def test_bytes_by_kind_add_up_what_crossed_a_link() -> None:
    """16 bytes down, 16 across, 16 up of one kind, 7 down of another; what nobody collects or stays put is left out."""
    calls = [
        Call(0, 0, "add", 0, 0, (Input(SERVER, {"model": 16, "fakes": 7}),), {"model": 16}),
        Call(1, 1, "add", 0, 0, (Input(0, {"model": 16}, call=0),), {"model": 16}),
        Call(2, 1, "add", 0, 0, (Input(1, {"model": 99}, call=1),), {"model": 99}),
        Call(3, SERVER, "add", 0, 0, (Input(SERVER, {"fakes": 99}),), {"fakes": 99}),
    ]
    ledger = Ledger([*calls, Collect((1, 3))])
    assert ledger.bytes_by_kind == {"model": 3 * 16, "fakes": 7}
    assert (ledger.bytes_down, ledger.bytes_across, ledger.bytes_up) == (23, 16, 16)
    assert ledger.traffic == {
        ("down", "model"): 16,
        ("down", "fakes"): 7,
        ("across", "model"): 16,
        ("up", "model"): 16,
    }
    assert Ledger().bytes_by_kind == {}


def test_what_stays_on_the_server_crosses_no_link() -> None:
    local = fleet()
    local.collect([local.submit(SERVER, "add", local.share(np.ones(2)))])
    assert local.settle().transfers == []


def test_the_ledger_tells_what_the_server_did_in_order() -> None:
    local = LocalFleet(Host(Adder, iter([30, 40]).__next__))
    handle = local.share(np.ones(2), since="ready")
    first = local.submit(0, "add", handle)
    with local.work("think", lambda: 7):
        second = local.submit(1, "add", first)
    local.mark("ready")
    local.collect([second, first])
    events = [replace(event, seconds=0) if isinstance(event, Call | Work) else event for event in local.settle().events]
    assert events == [
        Share(1, since="ready"),
        Call(0, 0, "add", 0, 30, (Input(SERVER, TWO, handle=1),), TWO),
        Call(1, 1, "add", 0, 40, (Input(0, TWO, call=0),), TWO),
        Work("think", 0, 7),
        Mark("ready"),
        Collect((1, 0)),
    ]
    assert local.settle().events == []
    assert local.share(np.ones(2)).number == 2, "handles of two rounds are told apart"


def test_what_is_reverted_never_happened_to_the_devices() -> None:
    """Two calls on one device and one on another go back; the state before the first stands."""
    local = fleet()
    local.restore({3: {"sum": np.full(2, 10.0)}})
    calls = [local.submit(device, "add", np.ones(2)) for device in (3, 3, 4, 5)]
    local.revert(calls[:3])
    assert local.collect([local.submit(device, "add", np.ones(2)) for device in (3, 4, 5)])[0].tolist() == [11, 11]
    sums = {device: state["sum"].tolist() for device, state in local.changed().items()}
    assert sums == {3: [11, 11], 4: [1, 1], 5: [2, 2]}


def test_what_is_over_is_not_kept() -> None:
    """Once its reply is collected, a call's reply and earlier state go with the next call, and those it waited for."""
    local = fleet()
    first = local.submit(0, "add", np.ones(2))
    second = local.submit(1, "add", first)
    local.collect([second])
    third = local.submit(0, "add", np.ones(2))
    assert set(local._before) == set(local._replies) == {third.call}
    local.collect([third])
    assert [call.device for call in local.settle().calls] == [0, 1, 0]
