"""State files in a store: which the kept rounds need, beside the arrays of older stores."""

import numpy as np
import pytest

from rayfed.fleet.states import StateFile
from rayfed.store import Store
from tests.test_store import filled, written


@pytest.fixture
def store(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/store.db")
    store.create_run("a", {}, {})
    yield store
    store.close()


def test_state_files_are_named_as_long_as_a_kept_round_needs_them(store):
    """Device 0 changes in every round, 1 in none, 2 and 3 share a file until 3 has another."""

    def files(**names):
        return {int(device[1:]): StateFile(name, 10) for device, name in names.items()}

    rounds = [files(d0="a0", d1="b", d2="c", d3="c"), files(d0="a1"), files(d0="a2", d3="d"), files(d0="a3")]
    unneeded = [store.commit("a", filled(round, each), keep=2) for round, each in enumerate(rounds)]
    assert unneeded == [set(), set(), {"a0"}, {"a1"}]
    assert store.files("a") == {"a2", "a3", "b", "c", "d"}
    assert store.files("a", {"a0", "c", "x"}) == {"c"}
    assert store.latest("a").devices == files(d0="a3", d1="b", d2="c", d3="d")
    assert store.latest("a", until=2).devices == files(d0="a2", d1="b", d2="c", d3="d")
    store.rewind("a", 2)
    assert store.files("a") == {"a2", "b", "c", "d"}
    assert [round for round, *_ in store.history("a")] == [0, 1, 2]
    assert store.commit("a", filled(2, files(d0="e", d3="c")), keep=2) == {"a2", "d"}
    assert store.latest("a").devices == files(d0="e", d1="b", d2="c", d3="c")
    store.forget_files("a", {"b", "c"})
    assert store.latest("a").devices == files(d0="e")


def test_files_take_the_place_of_arrays_that_an_older_store_has(store):
    """Each device's newest state counts, wherever it lies, and what it supersedes goes."""
    store.commit("a", filled(0, [0, 1, 2]), keep=1)
    store.commit("a", filled(1, {1: StateFile("one", 5)}), keep=1)
    last = store.latest("a").devices
    assert (last[1], {device: last[device]["m"][0] for device in (0, 2)}) == (StateFile("one", 5), {0: 0, 2: 0})
    assert store.commit("a", filled(2, [1]), keep=1) == {"one"}
    assert written(store.latest("a")) == {0: 0, 1: 2, 2: 0}


def test_tables_come_back_bit_for_bit(store):
    values = np.array([1.5, np.nan, -0.0])
    store.commit("a", filled(0, tables={"twin/computed": values}), keep=1)
    assert store.latest("a").tables["twin/computed"].tobytes() == values.tobytes()
