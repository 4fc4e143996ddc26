"""The tables of a store, and how a database comes to have them: a new one at once, an older one by migration."""

import re
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from rayfed.errors import UserError

HEAD = "0005"
"""The revision of these tables, which is the last one in `rayfed.migrations`. Revisions are four digits."""
FIRST = "0001"
"""What a store was before it said its revision."""
_FIRST_TABLES = {"runs", "rounds", "states", "device_states"}
_LOCK = 0x726179666564
"""PostgreSQL knows an advisory lock by a number; this one is ours."""

METADATA = sa.MetaData()
_key = partial(sa.Column, primary_key=True, autoincrement=False)
_value = partial(sa.Column, nullable=False)


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, METADATA, _key("run_id", sa.String, sa.ForeignKey("runs.id")), *columns)


_documents = [_value("config", sa.JSON), _value("facts", sa.JSON)]
_times = [_value("created", sa.DateTime), _value("updated", sa.DateTime)]
RUNS = sa.Table("runs", METADATA, _key("id", sa.String), *_times, _value("status", sa.String), *_documents)
ROUNDS = _table("rounds", _key("round", sa.Integer), _value("metrics", sa.JSON), _value("participants", sa.JSON))
_state = [_value("facts", sa.JSON), _value("arrays", sa.LargeBinary), sa.Column("tables", sa.LargeBinary)]
STATES = _table("states", _key("round", sa.Integer), *_state)


def _device_key() -> list[sa.Column[Any]]:
    return [_key("device", sa.Integer), _key("round", sa.Integer)]


DEVICES = _table("device_states", *_device_key(), _value("arrays", sa.LargeBinary))
"""States of devices as arrays: what older stores have, and runs without a state folder."""
FILES = _table("state_files", *_device_key(), _value("name", sa.String), _value("nbytes", sa.BigInteger))
"""States of devices as files; see `rayfed.fleet.states.StateFile`."""
EVENTS = _table("events", _key("round", sa.Integer), _key("number", sa.Integer), _value("data", sa.JSON))
OUTCOMES = _table("outcomes", _key("round", sa.Integer), _value("arrays", sa.LargeBinary))
_lease = [_value("token", sa.Integer), _value("holder", sa.JSON), _value("until", sa.Float)]
LEASES = _table("leases", *_lease)
"""Who may write to a run; see `rayfed.store.leases`."""
OF_ROUNDS = (ROUNDS, STATES, DEVICES, FILES, EVENTS, OUTCOMES)
"""The tables whose rows a round wrote."""

# Alembic's own table, as Alembic makes it; outside of `METADATA`, which Alembic is compared with.
_number = sa.Column("version_num", sa.String(32), nullable=False)
_version = sa.Table(
    "alembic_version", sa.MetaData(), _number, sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc")
)


def prepare(engine: sa.Engine, url: str) -> None:
    """Bring the database to HEAD; one that is there costs two reads.

    Raises UserError, which calls the database `url`, if a later rayfed or another program wrote it.
    """
    with engine.begin() as db:
        if _revision(db, url) == HEAD:
            return
    # Look, create or migrate, and stamp are one transaction: killed in between, it has not happened. Only one process
    # is in it at a time. SQLite: IMMEDIATE takes the write lock before the first look, and the others wait for it as
    # long as busy_timeout says; a deferred transaction would fail in two that look first and write then. PostgreSQL:
    # an advisory lock, since there may be no table yet to lock; it goes with the transaction.
    with engine.execution_options(sqlite_begin="IMMEDIATE").begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        _advance(db, _revision(db, url))


def _revision(db: sa.Connection, url: str) -> str | None:
    """What the database says of its tables; None if nothing."""
    if not sa.inspect(db).has_table(_version.name):
        return None
    found: str | None = db.execute(sa.select(_number)).scalar_one_or_none()
    ours = found is None or re.fullmatch(r"\d{4}", found)
    if ours and (found is None or found <= HEAD):
        return found
    if ours:
        raise UserError(f"{url} was written by a later rayfed (schema {found}, this one knows {HEAD}); update rayfed")
    raise UserError(f"{url} belongs to another program (its schema is {found!r}); give rayfed a database of its own")


def _advance(db: sa.Connection, revision: str | None) -> None:
    if revision is None:
        old = set(sa.inspect(db).get_table_names()) >= _FIRST_TABLES
        revision = FIRST if old else HEAD
        if not old:
            METADATA.create_all(db, checkfirst=False)
        db.execute(CreateTable(_version, if_not_exists=True))
        db.execute(_version.insert().values(version_num=revision))
    if revision != HEAD:
        from rayfed.migrations import upgrade  # Alembic takes longer to import than a store to open

        upgrade(db)
