"""Connections to the database of a store."""

import json
import sqlite3
import time
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

ATTEMPTS, ATTEMPT_S = 100, 0.1
"""How often, and after how many seconds, a new database that others are making is asked again."""


def connect(url: sa.URL) -> sa.Engine:
    """An engine that begins a transaction before its first read."""
    engine = sa.create_engine(url, pool_pre_ping=True, json_serializer=partial(json.dumps, allow_nan=False))
    if engine.dialect.name == "sqlite":
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        sa.event.listen(engine, "connect", _configure_sqlite)
        # sqlite3 alone begins at the first write, which leaves reads outside the transaction
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: DBAPIConnection, _: object) -> None:
    for pragma in ("busy_timeout = 30000", "page_size = 32768"):
        connection.cursor().execute(f"PRAGMA {pragma}")
    _use_wal(connection)
    connection.cursor().execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: DBAPIConnection) -> None:
    """Where two processes change a new database's journal at once, SQLite refuses one without waiting."""
    for left in reversed(range(ATTEMPTS)):
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not left or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(ATTEMPT_S)


def _begin_sqlite(db: sa.Connection) -> None:
    """A transaction that is to write after it has read says `sqlite_begin="IMMEDIATE"` in its execution options."""
    db.exec_driver_sql(f"BEGIN {db.get_execution_options().get('sqlite_begin', 'DEFERRED')}")
