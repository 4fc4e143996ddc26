"""The store's revisions: `versions` holds one module for each, which says how to get there from the one before.

A new revision: change the tables in `rayfed.schema`, set its HEAD, and add the module. There is no way back.
"""

import threading

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

_one_thread = threading.Lock()
"""Alembic keeps what it is about in global variables."""


def upgrade(db: sa.Connection) -> None:
    """Take a database of a known revision to the last one, within the transaction that the connection is in."""
    config = Config()
    config.set_main_option("script_location", "rayfed:migrations")
    config.attributes["connection"] = db
    with _one_thread:
        command.upgrade(config, "head")
