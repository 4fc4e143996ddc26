"""Stores of earlier revisions are migrated when they are opened: whole, once, or not at all."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from safetensors.numpy import load

from rayfed import schema
from rayfed.errors import UserError
from rayfed.store import Store

OLD = Path(__file__).parent / "stores" / "e7c9bc6.db"
"""See make_e7c9bc6.py beside it."""
FEGAN, MD_GAN, FSL_GAN = (f"{method}-e7c9bc" for method in ("fegan", "md-gan", "fsl-gan"))
FIRST_TABLES = ("device_states", "rounds", "runs", "states")


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copy(OLD, tmp_path / "old.db"))


def url_of(path):
    return f"sqlite:///{path}"


def opened(path):
    return closing(Store(url_of(path)))


def query(path, statement, *values):
    with closing(sqlite3.connect(path)) as db:
        return db.execute(statement, values).fetchall()


def contents(path):
    """{table: its rows}, all of them, as SQLite has them."""
    tables = [name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {table: sorted(query(path, f"SELECT * FROM {table}")) for table in tables}


def add_state(path, run_id, round, facts, arrays=b""):
    """A state of revision 0001, as bytes that need not be arrays."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO states VALUES (?, ?, ?, ?)", (run_id, round, json.dumps(facts), arrays))


def add_run(path, run_id, rounds):
    """A run of revision 0001 without states."""
    with closing(sqlite3.connect(path)) as db, db:
        times = ("2026-01-02 03:04:05.000006",) * 2
        db.execute("INSERT INTO runs VALUES (?, ?, ?, 'interrupted', '{}', '{}')", (run_id, *times))
        db.executemany("INSERT INTO rounds VALUES (?, ?, '{}', '[]')", [(run_id, round) for round in rounds])


def test_the_old_store_is_of_the_first_revision_and_has_what_there_is_to_migrate():
    assert tuple(contents(OLD)) == FIRST_TABLES
    assert OLD.stat().st_size < 300_000
    [(facts,)] = query(OLD, "SELECT facts FROM states WHERE run_id = ?", FSL_GAN)
    assert json.loads(facts)["slowness"]
    assert {round for round, _ in json.loads(facts)["events"]} == {1, 2}
    assert query(OLD, "SELECT count(*) FROM states WHERE run_id = ?", FEGAN) == [(2,)]


def test_runs_and_their_history_come_out_of_a_migration_as_they_were(old):
    rows = query(OLD, "SELECT id, created, updated, status, config, facts FROM runs ORDER BY id")
    with opened(old) as store:
        for run_id, created, updated, status, config, facts in rows:
            record = store.run(run_id)
            assert (record.status, record.rounds) == (status, 2) == ("interrupted", 2)
            assert (record.config, record.facts) == (json.loads(config), json.loads(facts))
            assert f"{record.created:%F %T.%f}" == created
            assert f"{record.updated:%F %T.%f}" == updated
            rounds = query(OLD, "SELECT round, metrics, participants FROM rounds WHERE run_id = ?", run_id)
            assert store.history(run_id) == [(round, json.loads(m), json.loads(p)) for round, m, p in rounds]
    assert [row[0] for row in rows] == [FEGAN, FSL_GAN, MD_GAN]


def test_every_state_comes_out_of_a_migration_bit_for_bit(old):
    states = query(OLD, "SELECT run_id, round, arrays FROM states")
    newest = "SELECT device, arrays, max(round) FROM device_states WHERE run_id = ? AND round <= ? GROUP BY device"
    with opened(old) as store:
        for run_id, round, arrays in states:
            commit = store.latest(run_id, until=round)
            assert commit.round == round
            assert_same(commit.arrays, load(arrays))
            devices = {device: load(state) for device, state, _ in query(OLD, newest, run_id, round)}
            assert commit.devices.keys() == devices.keys()
            for device, state in devices.items():
                assert_same(commit.devices[device], state)
    assert len(states) == 4


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_facts_are_lifted_to_version_2_in_every_state(old):
    with opened(old) as store:
        for run_id, round, facts in query(OLD, "SELECT run_id, round, facts FROM states"):
            before = json.loads(facts)
            slowness = {"slowness": before["slowness"]} if run_id == FSL_GAN else {}
            assert store.latest(run_id, until=round).facts == {
                "version": 2,
                "method": before["method"] | slowness,
                "seen": before["seen"],
                "twin": before["twin"],
            }


def test_events_move_into_their_table_as_notes(old):
    [(facts,)] = query(OLD, "SELECT facts FROM states WHERE run_id = ?", FSL_GAN)
    expected = [(round, {"kind": "note", "text": text}) for round, text in json.loads(facts)["events"]]
    with opened(old) as store:
        assert store.events(FSL_GAN) == expected
        assert store.latest(FSL_GAN).events == [event for round, event in expected if round == 2]
        assert store.events(FEGAN) == store.events(MD_GAN) == []


def test_events_are_the_newest_states_and_only_of_rounds_that_the_run_has(old):
    add_run(old, "a", [0, 3, 4])
    events = [[3, "é"], [9, "of no round"], [4, "one"], [4, "one"]]
    for round in (3, 4):
        facts = {"method": {}, "seen": [], "twin": {}, "slowness": {}, "events": events[: round - 2]}
        add_state(old, "a", round, facts | {"events": events if round == 4 else events[:1]})
    add_run(old, "b", [0])
    with opened(old) as store:
        texts = [(round, event["text"]) for round, event in store.events("a")]
        assert texts == [(3, "é"), (4, "one"), (4, "one")]
        assert (store.events("b"), store.latest("b")) == ([], None)
    lifted = {"version": 2, "method": {}, "seen": [], "twin": {}}
    rows = query(old, "SELECT facts FROM states WHERE run_id = 'a'")
    assert [json.loads(facts) for (facts,) in rows] == [lifted, lifted]


def test_a_migrated_store_goes_on_like_any_other(old):
    with opened(old) as store:
        last = store.latest(FSL_GAN)
        store.commit(FSL_GAN, last, keep=1)
        assert store.events(FSL_GAN)[-1] == (2, last.events[-1])
        store.remove(FSL_GAN)
        assert [record.id for record in store.runs()] == [FEGAN, MD_GAN]


def test_no_array_is_read_into_memory(old):
    blob = 64 << 20
    for round in (7, 8):
        add_state(old, MD_GAN, round, {"method": {}, "events": []}, b"\1" * blob)
    tracemalloc.start()
    try:
        Store(url_of(old)).close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < blob / 2
    kept = query(old, "SELECT length(arrays), substr(arrays, -1) FROM states WHERE round > 6")
    assert kept == [(blob, b"\1")] * 2


def test_created_and_migrated_stores_have_the_same_tables(old, tmp_path):
    Store(url_of(old)).close()
    Store(url_of(tmp_path / "new.db")).close()
    assert tables_of(old) == tables_of(tmp_path / "new.db")
    assert set(tables_of(old)) == {*FIRST_TABLES, "events", "outcomes", "state_files", "leases", "alembic_version"}
    for path in (old, tmp_path / "new.db"):
        assert query(path, "SELECT version_num FROM alembic_version") == [(schema.HEAD,)]
        with sa.create_engine(url_of(path)).connect() as db:
            assert compare_metadata(MigrationContext.configure(db), schema.METADATA) == []


def tables_of(path):
    """{table: its statement}, without layout."""
    rows = query(path, "SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    return {name: " ".join(sql.split()) for name, sql in rows}


def test_the_revisions_start_with_the_old_stores_tables_and_end_with_todays(tmp_path):
    config = Config()
    config.set_main_option("script_location", "rayfed:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]
    with sa.create_engine(url_of(tmp_path / "first.db")).begin() as db:
        config.attributes["connection"] = db
        command.upgrade(config, schema.FIRST)
    first = tables_of(tmp_path / "first.db")
    del first["alembic_version"]
    assert first == tables_of(OLD)
    Store(url_of(tmp_path / "first.db")).close()
    assert query(tmp_path / "first.db", "SELECT * FROM alembic_version") == [(schema.HEAD,)]


def test_a_store_of_a_later_rayfed_is_refused_in_one_line_and_left_alone(tmp_path):
    path = tmp_path / "later.db"
    Store(url_of(path)).close()
    query_and_commit(path, "UPDATE alembic_version SET version_num = '0107'")
    before = contents(path)
    with pytest.raises(UserError) as caught:
        Store(url_of(path))
    assert str(caught.value) == (
        f"{url_of(path)} was written by a later rayfed (schema 0107, this one knows {schema.HEAD}); update rayfed"
    )
    assert contents(path) == before


def query_and_commit(path, statement):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (
            ["CREATE TABLE alembic_version (version_num TEXT)", "INSERT INTO alembic_version VALUES ('1b5f0d9ad7c1')"],
            "belongs to another program",
        ),
        (["CREATE TABLE runs (run_uuid TEXT)"], "table runs already exists"),
    ],
)
def test_a_database_of_another_program_is_refused_in_one_line_and_left_alone(tmp_path, statements, complaint):
    for statement in statements:
        query_and_commit(tmp_path / "theirs.db", statement)
    before = contents(tmp_path / "theirs.db")
    with pytest.raises(UserError, match=complaint) as caught:
        Store(url_of(tmp_path / "theirs.db"))
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "theirs.db") == before


def test_a_store_that_is_up_to_date_opens_without_writing(old):
    Store(url_of(old)).close()
    with closing(sqlite3.connect(old, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        start = time.perf_counter()
        with opened(old) as store:
            assert len(store.runs()) == 3
        assert time.perf_counter() - start < 10  # a writer would wait for 30 seconds


QUIET = """
import sys
from rayfed.store import Store
Store(sys.argv[1]).close()
print("alembic" in sys.modules)
"""


def test_alembic_is_imported_for_an_old_store_alone_and_nothing_is_printed(old, tmp_path):
    found = [python(QUIET, url_of(path)) for path in (old, old, tmp_path / "new.db", tmp_path / "new.db")]
    assert found == ["True\n", "False\n", "False\n", "False\n"]


def python(script, *args):
    """What a script prints; nothing may come on stderr."""
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


OPENER = """
import json, sys
import rayfed.migrations
from rayfed.store import Store
print("ready", flush=True)
sys.stdin.readline()
store = Store(sys.argv[1])
print(json.dumps([[record.id, store.events(record.id)] for record in store.runs()]))
"""


def start(count, script, *args):
    """Processes that have all said their first line."""
    arguments, pipe = [sys.executable, "-c", script, *map(str, args)], subprocess.PIPE
    processes = [subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(count)]
    for process in processes:
        process.stdout.readline()
    return processes


def finish(process):
    """Let a process go on; what else it says."""
    out, err = process.communicate("\n", timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


def all_at_once(script, *args):
    """What three processes say that pass their first line at once."""
    processes = start(3, script, *args)
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [finish(process) for process in processes]


def test_processes_that_open_an_old_store_at_once_find_it_migrated_once(old):
    clean = Path(shutil.copy(OLD, old.with_name("clean.db")))
    with opened(clean) as store:
        expected = [[record.id, store.events(record.id)] for record in store.runs()]
    for number in range(2):
        path = Path(shutil.copy(OLD, old.with_name(f"{number}.db")))
        found = all_at_once(OPENER, url_of(path))
        assert found == [json.dumps(expected) + "\n"] * 3
        assert contents(path) == contents(clean)


def test_processes_that_make_a_new_store_at_once_all_have_it(tmp_path):
    for number in range(2):
        path = tmp_path / f"{number}.db"
        assert all_at_once(OPENER, url_of(path)) == ["[]\n"] * 3
        assert query(path, "SELECT * FROM alembic_version") == [(schema.HEAD,)]


HALTED = """
import sys
import sqlalchemy as sa
from rayfed.store import Store
@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def halt(db, cursor, statement, *_):
    if statement.startswith("UPDATE alembic_version"):
        print("halted", flush=True)
        sys.stdin.readline()
Store(sys.argv[1]).close()
"""


def test_who_opens_a_store_in_the_middle_of_its_migration_waits_for_the_end(old):
    before = contents(old)
    [first] = start(1, HALTED, url_of(old))
    assert contents(old) == before
    found = []
    second = threading.Thread(target=lambda: found.append(python(QUIET, url_of(old))))
    second.start()
    second.join(3)
    assert second.is_alive()
    finish(first)
    second.join()
    assert found == ["False\n"]  # it had nothing to migrate any more
    with opened(old) as store:
        assert len(store.events(FSL_GAN)) == 6


KILLED = """
import itertools, os, shutil, signal, sys
import sqlalchemy as sa
import rayfed.migrations
from rayfed.store import Store
old, folder = sys.argv[1:]

def open_and_die(path, moment):
    moments = itertools.count(1)
    def die(*_):
        if next(moments) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    sa.event.listen(sa.Engine, "before_cursor_execute", die)
    sa.event.listen(sa.Engine, "commit", die)
    Store(f"sqlite:///{path}")
    os._exit(0)

for moment in itertools.count(1):
    path = shutil.copy(old, f"{folder}/{moment}.db")
    child = os.fork()
    if child == 0:
        open_and_die(path, moment)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended == 0:
        break
    assert ended == -signal.SIGKILL, ended
print(moment - 1)
"""


def test_a_kill_at_any_moment_of_a_migration_leaves_the_old_store(tmp_path):
    """Before each statement, and before each commit: the store is as it was, and the next one to open it migrates."""
    clean = Path(shutil.copy(OLD, tmp_path / "clean.db"))
    Store(url_of(clean)).close()
    moments = int(python(KILLED, OLD, tmp_path))
    assert moments > 20
    before, after = contents(OLD), contents(clean)
    for moment in range(1, moments + 1):
        path = tmp_path / f"{moment}.db"
        assert contents(path) == before
        Store(url_of(path)).close()
        assert contents(path) == after
