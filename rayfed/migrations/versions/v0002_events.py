"""Events get a table of their own, and the facts of a state say their version, which is 2.

Version 1 was {"method": {...}, "seen": [...], "twin": {...}, "slowness": {device: factor}, "events": [[round, text],
...]}, in which every state repeated the events of all rounds so far. In version 2 slowness is the method's, if there is
any.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ROUNDS = sa.table("rounds", sa.column("run_id"), sa.column("round"))
STATES = sa.table("states", sa.column("run_id"), sa.column("round"), sa.column("facts", sa.JSON))


def upgrade() -> None:
    """Make the table, lift the facts of every state, and take each run's events from its newest one."""
    events = op.create_table(
        "events",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    db = op.get_bind()
    newest = sa.select(STATES.c.run_id, sa.func.max(STATES.c.round)).group_by(STATES.c.run_id)
    for run_id, round in db.execute(newest).all():
        if rows := _events(db, run_id, round):
            db.execute(events.insert(), rows)
    # One state at a time, and never its arrays: they can be large, the facts are not.
    for run_id, round in db.execute(sa.select(STATES.c.run_id, STATES.c.round)).all():
        lifted = _lifted(_facts(db, run_id, round))
        db.execute(sa.update(STATES).filter_by(run_id=run_id, round=round).values(facts=lifted))


def _facts(db: sa.Connection, run_id: str, round: int) -> dict[str, Any]:
    facts: dict[str, Any] = db.execute(sa.select(STATES.c.facts).filter_by(run_id=run_id, round=round)).scalar_one()
    return facts


def _events(db: sa.Connection, run_id: str, newest: int) -> list[dict[str, Any]]:
    """The events of the rounds that the run has, numbered within their round."""
    counts = dict.fromkeys(db.execute(sa.select(ROUNDS.c.round).filter_by(run_id=run_id)).scalars(), 0)
    rows = []
    for round, text in _facts(db, run_id, newest).get("events", []):
        if round in counts:
            data = {"kind": "note", "text": text}
            rows.append({"run_id": run_id, "round": round, "number": counts[round], "data": data})
            counts[round] += 1
    return rows


def _lifted(facts: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in facts.items() if name not in ("slowness", "events")}
    if facts.get("slowness"):
        rest["method"] = rest.get("method", {}) | {"slowness": facts["slowness"]}
    return {"version": 2} | rest
