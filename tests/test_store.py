import math
import random
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import StatementError

from rayfed.errors import UserError
from rayfed.store import Commit, Store


@pytest.fixture
def store(url):
    store = Store(url)
    store.create_run("a", {"seed": 1}, {"versions": {"torch": "2"}})
    yield store
    store.close()


def filled(round, devices=(), **values):
    """A commit whose every array says which round wrote it."""
    fields = {"facts": {}, "metrics": {"loss_g": float(round)}, "participants": list(devices)}
    arrays = {"w": np.full(3, round)}
    states = devices if isinstance(devices, dict) else {k: {"m": np.full(2, round)} for k in devices}
    return Commit(round, arrays, devices=states, **fields | values)


def written(commit):
    """{device: the round that wrote its state}"""
    return {device: int(arrays["m"][0]) for device, arrays in commit.devices.items()}


def refusal(store):
    """What SQLAlchemy raises for what is no JSON; with PostgreSQL it is the driver that turns values into JSON."""
    return StatementError if store.url.startswith("sqlite") else ValueError


def test_every_kind_of_array_comes_back_bit_for_bit(store):
    arrays = {
        "scalar": np.array(3, np.int64),
        "nan": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
        "bytes": np.arange(256, dtype=np.uint8).reshape(2, 128),
        "none": np.zeros((0, 4), np.float16),
        "flags": np.array([True, False]),
        "transposed": np.arange(6).reshape(2, 3).T,
    }
    store.commit("a", Commit(0, arrays, {"queue": [3, 1]}, {0: {}, 7: arrays}, {}, []), keep=1)
    loaded = store.latest("a")
    assert loaded.facts == {"queue": [3, 1]}
    assert loaded.devices[0] == {}
    for found in (loaded.arrays, loaded.devices[7]):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tobytes() == array.tobytes()


def test_latest_joins_the_newest_state_of_every_device(store):
    assert store.latest("a") is None
    for round, devices in enumerate([[0, 1, 2], [1], [0, 3]]):
        store.commit("a", filled(round, devices), keep=1)
    last = store.latest("a")
    assert (last.round, last.arrays["w"].tolist(), last.participants) == (2, [2, 2, 2], [0, 3])
    assert written(last) == {0: 2, 1: 1, 2: 0, 3: 2}


def test_each_of_the_last_keep_rounds_can_be_restored(store):
    trained = [[0, 1, 2], [1], [0], [1], [1, 3]]
    for round, devices in enumerate(trained):
        store.commit("a", filled(round, devices), keep=3)
    assert store.latest("a", until=1) is None
    assert written(store.latest("a", until=2)) == {0: 2, 1: 1, 2: 0}
    assert written(store.latest("a", until=3)) == {0: 2, 1: 3, 2: 0}
    assert written(store.latest("a", until=9)) == {0: 2, 1: 4, 2: 0, 3: 4}


def test_a_bounded_number_of_states_stays_on_disk(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/s.db")
    store.create_run("a", {}, {})
    state = {"w": np.zeros(1_000_000, np.uint8)}
    for round in range(12):
        store.commit("a", Commit(round, state, {}, {0: state}, {}, []), keep=2)
    store.close()
    assert (tmp_path / "s.db").stat().st_size < 8_000_000  # 2 + 2 kept, and as much in use while committing
    assert [round for round, _, _ in Store(f"sqlite:///{tmp_path}/s.db").history("a")] == list(range(12))


def test_a_round_done_again_replaces_itself_and_an_abandoned_future_goes(store):
    for round in range(5):
        store.commit("a", filled(round, [round]), keep=4)
    store.commit("a", filled(2, [7], facts={"again": True}), keep=4)
    last = store.latest("a")
    assert (last.round, last.facts) == (2, {"again": True})
    assert written(last) == {0: 0, 1: 1, 7: 2}
    assert [round for round, _, _ in store.history("a")] == [0, 1, 2]


def test_events_come_back_in_order_and_are_never_pruned(store):
    for round in range(4):
        events = [{"kind": "note", "text": f"{round}, {number}: é"} for number in range(round % 3)]
        store.commit("a", filled(round, [0], events=events), keep=1)
    notes = [(1, "1, 0: é"), (2, "2, 0: é"), (2, "2, 1: é")]
    assert store.events("a") == [(round, {"kind": "note", "text": text}) for round, text in notes]
    assert store.latest("a").events == []
    store.create_run("b", {}, {})
    assert store.events("b") == []


def test_a_commit_comes_back_with_its_rounds_events_alone(store):
    for round in range(3):
        store.commit("a", filled(round, events=[{"of": round}, {"devices": ["x", "y"]}]), keep=2)
    assert store.latest("a").events == [{"of": 2}, {"devices": ["x", "y"]}]
    assert store.latest("a", until=1).events == [{"of": 1}, {"devices": ["x", "y"]}]


def test_events_of_an_abandoned_future_go_and_other_runs_keep_theirs(store):
    store.create_run("b", {}, {})
    for run in "ab":
        for round in range(4):
            store.commit(run, filled(round, events=[{"of": round}]), keep=4)
    store.commit("a", filled(2, events=[{"again": 2}]), keep=4)
    assert store.events("a") == [(0, {"of": 0}), (1, {"of": 1}), (2, {"again": 2})]
    assert store.events("b") == [(round, {"of": round}) for round in range(4)]


def test_an_event_that_is_no_json_leaves_the_round_before(store):
    store.commit("a", filled(0, [0], events=[{"of": 0}]), keep=1)
    with pytest.raises(refusal(store), match="JSON"):
        store.commit("a", filled(1, [0], events=[{"of": 1}, {"of": math.nan}]), keep=1)
    assert store.latest("a").round == 0
    assert store.events("a") == [(0, {"of": 0})]


def test_a_removed_run_leaves_nothing_and_the_others_stay(store, url):
    store.create_run("b", {}, {})
    for run in "ab":
        store.commit(run, filled(1, [0, 1], events=[{"of": run}]), keep=1)
    store.remove("a")
    assert [record.id for record in store.runs()] == ["b"]
    assert (written(store.latest("b")), store.events("b")) == ({0: 1, 1: 1}, [(1, {"of": "b"})])
    assert (store.latest("a"), store.events("a"), store.history("a")) == (None, [], [])
    with sa.create_engine(url).connect() as db:
        for table in ("rounds", "states", "device_states", "events"):
            assert db.execute(sa.text(f"SELECT DISTINCT run_id FROM {table}")).fetchall() == [("b",)]
    store.create_run("a", {}, {})
    assert store.latest("a") is None


def test_a_configuration_can_be_replaced(store):
    store.create_run("b", {"seed": 2}, {})
    store.set_config("a", {"seed": 1, "rounds": 80})
    assert store.run("a").config == {"seed": 1, "rounds": 80}
    assert store.run("a").facts == {"versions": {"torch": "2"}}
    assert store.run("b").config == {"seed": 2}


def test_metrics_that_are_not_finite_survive_and_late_ones_merge(store):
    store.commit("a", filled(0, [2], metrics={"x": math.nan, "y": -math.inf, "z": np.float32(0.5)}), keep=1)
    store.set_metric("a", 0, {"fid": 12.5, "y": 1})
    [(round, metrics, participants)] = store.history("a")
    assert (round, participants) == (0, [2])
    assert math.isnan(metrics.pop("x"))
    assert metrics == {"y": 1.0, "z": 0.5, "fid": 12.5}
    assert math.isnan(store.latest("a").metrics["x"])
    with pytest.raises(KeyError, match="no round 1"):
        store.set_metric("a", 1, {"fid": 1.0})


def test_a_run_keeps_its_config_facts_status_and_times(store):
    record = store.run("a")
    assert (record.status, record.config, record.rounds) == ("running", {"seed": 1}, None)
    assert abs(record.created - datetime.now(UTC)) < timedelta(minutes=1)
    store.update_facts("a", mlflow_run="m1", versions={"torch": "3"})
    store.set_status("a", "interrupted")
    store.commit("a", filled(4), keep=1)
    record = store.run("a")
    assert (record.status, record.rounds) == ("interrupted", 4)
    assert record.facts == {"mlflow_run": "m1", "versions": {"torch": "3"}}
    assert record.updated > record.created
    store.create_run("b", {}, {})
    assert [run.id for run in store.runs()] == ["a", "b"]
    assert store.latest("b") is None


def test_unknown_and_repeated_run_ids_are_one_line(store):
    store.create_run("fegan-seed0", {}, {})
    url = re.escape(store.url)
    with pytest.raises(UserError, match=f"^no run 'fegan-sed0' in {url}; `rayfed list` shows .* --runs-dir"):
        store.run("fegan-sed0")
    with pytest.raises(UserError, match=f"^no run 'zzz' in {url}; `rayfed list` shows"):
        store.commit("zzz", filled(0), keep=1)
    with pytest.raises(UserError, match=f"^no run 'fegan-seed1' in {url}.* --runs-dir names another folder$"):
        store.remove("fegan-seed1")
    with pytest.raises(UserError, match=r"^no run 'zzz'"):
        store.set_config("zzz", {})
    with pytest.raises(UserError, match=f"run 'a' is already in {url};"):
        store.create_run("a", {}, {})


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite:////dev/null/store.db", "foo://host/db", "postgresql+nodriver://u:secret@host/db"],
)
def test_a_url_that_cannot_be_used_is_one_line_without_its_password(url):
    with pytest.raises(UserError, match=r"^store\.url = .*cannot be used") as caught:
        Store(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("these are not the rows you are looking for" * 100)
    with pytest.raises(UserError, match="not a database"):
        Store(f"sqlite:///{tmp_path}/text.db")


def test_a_failed_commit_leaves_the_one_before(store):
    store.commit("a", filled(0, [0]), keep=1)
    with pytest.raises(refusal(store), match="JSON"):
        store.commit("a", filled(1, [0], facts={"x": math.nan}), keep=1)
    assert written(store.latest("a")) == {0: 0}
    assert [round for round, _, _ in store.history("a")] == [0]


def test_a_reader_sees_whole_commits_while_another_process_writes(url):
    store = Store(url)
    store.create_run("a", {}, {})
    with endless_commits(url) as writer:
        seen = [check_consistent(store) for _ in range(30)]
        writer.send_signal(signal.SIGKILL)
    assert seen == sorted(seen)


def test_a_kill_at_any_moment_leaves_a_whole_commit(url):
    store = Store(url)
    store.create_run("a", {}, {})
    moments = random.Random(0)
    before = 0
    for _ in range(10):
        with endless_commits(url) as writer:
            time.sleep(moments.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
        after = check_consistent(store)
        assert after > before
        before = after


WRITER = """
import sys, numpy as np
from rayfed.store import Commit, Store
store = Store(sys.argv[1])
last = store.latest("a")
round = 0 if last is None else last.round
while True:
    round += 1
    full = {"w": np.full(200_000, round)}
    store.commit("a", Commit(round, full, {"round": round}, {k: full for k in range(3)}, {"x": round}, [round]), keep=1)
    print(round, flush=True)
"""


def endless_commits(url):
    """A process that commits one round after another, each full of its number; it has done one when this returns."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip().isdigit()
    return process


def check_consistent(store):
    """The last commit's round, after a look at all that it holds."""
    last = store.latest("a")
    assert last.facts == {"round": last.round}
    assert (last.metrics, last.participants) == ({"x": last.round}, [last.round])
    assert sorted(last.devices) == [0, 1, 2]
    for arrays in (last.arrays, *last.devices.values()):
        assert arrays["w"].shape == (200_000,)
        assert (arrays["w"] == last.round).all()
    return last.round
