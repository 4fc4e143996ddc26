"""Who may write to a run: a lease with a fencing token, in the run's own database.

A driver takes the lease for some seconds, and renews it as long as it lives. Each taking counts the token up. Every
write of a driver checks in its own transaction that the token is still the driver's: one that was paused, or cut off,
while another took the lease, can write nothing any more, however late it wakes (Gray and Cheriton 1989, "Leases: an
efficient fault-tolerant mechanism for distributed file cache consistency").

Times are the database's, so that no two machines need to agree on one.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from rayfed.errors import UserError
from rayfed.schema import LEASES

Holder = dict[str, Any]
"""Who holds a lease: `host` and `pid` of the process, and whatever else its owner knows itself by."""


class LeaseLostError(UserError):
    """Another process has taken the run over."""


def take(db: sa.Connection, run_id: str, holder: Holder, seconds: float, is_dead: Callable[[Holder], bool]) -> int:
    """Take a run's lease for so many seconds; its new token.

    One that has not run out is taken only if its holder `is_dead`; else UserError says who holds it.
    """
    row = db.execute(LEASES.select().where(LEASES.c.run_id == run_id)).one_or_none()
    now = _clock(db)
    if row is not None and row.until > now and not is_dead(row.holder):
        raise UserError(
            f"run {run_id} is driven by {_name(row.holder)}, whose lease lasts for another {row.until - now:.0f} s; "
            "stop that first"
        )
    token: int = 1 if row is None else row.token + 1
    db.execute(LEASES.delete().where(LEASES.c.run_id == run_id))
    db.execute(LEASES.insert().values(run_id=run_id, token=token, holder=holder, until=now + seconds))
    return token


def check(db: sa.Connection, run_id: str, token: int) -> None:
    """Raise LeaseLostError unless this is the token of who took the lease last."""
    row = db.execute(LEASES.select().where(LEASES.c.run_id == run_id)).one_or_none()
    if row is None or row.token != token:
        by = _name(row.holder) if row is not None else "another process"
        raise LeaseLostError(f"run {run_id} has been taken over by {by}; this process writes to it no more")


def renew(db: sa.Connection, run_id: str, seconds: float) -> None:
    """Let the lease last for so many seconds from now."""
    db.execute(LEASES.update().where(LEASES.c.run_id == run_id).values(until=_clock(db) + seconds))


def holders(db: sa.Connection) -> dict[str, Holder]:
    """By run, who holds a lease that has not run out."""
    rows = db.execute(sa.select(LEASES.c.run_id, LEASES.c.holder).where(LEASES.c.until > _clock(db)))
    return {row.run_id: row.holder for row in rows}


def _clock(db: sa.Connection) -> float:
    """Seconds since 1970, by the database's clock."""
    of_sqlite = (sa.func.julianday("now") - 2440587.5) * 86400.0
    of_postgresql = sa.extract("epoch", sa.func.clock_timestamp())
    now = sa.select(of_postgresql if db.dialect.name == "postgresql" else of_sqlite)
    return float(db.execute(now).scalar_one())


def _name(holder: Holder) -> str:
    return f"process {holder['pid']} on {holder['host']}"
