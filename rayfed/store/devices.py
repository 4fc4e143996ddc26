"""The device states of a store: which files, or arrays, each kept round needs."""

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa
from safetensors.numpy import load

from rayfed.fleet.folders import Arrays
from rayfed.fleet.states import StateFile, pack
from rayfed.schema import DEVICES, FILES, STATES

DeviceState = Arrays | StateFile
TABLES = (DEVICES, FILES)
IN_ONE_QUERY = 500
"""Names; databases take some thousands of values in a statement."""


def insert(db: sa.Connection, run_id: str, round: int, states: dict[int, DeviceState]) -> None:
    """Write down the states that devices have since a round."""
    rows: dict[sa.Table, list[dict[str, Any]]] = {table: [] for table in TABLES}
    for device, state in states.items():
        key = {"run_id": run_id, "device": device, "round": round}
        if isinstance(state, StateFile):
            rows[FILES].append(key | {"name": state.name, "nbytes": state.nbytes})
        else:
            rows[DEVICES].append(key | {"arrays": pack(state)})
    for table, found in rows.items():
        if found:
            db.execute(table.insert(), found)


def drop_from(db: sa.Connection, run_id: str, round: int) -> set[str]:
    """Forget the states of a round and of all after it; the names of their files."""
    db.execute(DEVICES.delete().where(DEVICES.c.run_id == run_id, DEVICES.c.round >= round))
    return _delete_files(db, run_id, FILES.c.round >= round)


def prune(db: sa.Connection, run_id: str, keep: int) -> set[str]:
    """Forget the states that no longer help to restore any of the last `keep` rounds; the names of their files."""
    rounds = sa.select(STATES.c.round).where(STATES.c.run_id == run_id).order_by(STATES.c.round.desc())
    kept, dropped = (found := list(db.execute(rounds).scalars()))[:keep], found[keep:]
    if not dropped:
        return set()
    db.execute(STATES.delete().where(STATES.c.run_id == run_id, STATES.c.round < kept[-1]))
    db.execute(DEVICES.delete().where(DEVICES.c.run_id == run_id, _superseded(DEVICES, run_id, dropped[-1], kept[-1])))
    return _delete_files(db, run_id, _superseded(FILES, run_id, dropped[-1], kept[-1]))


def _superseded(table: sa.Table, run_id: str, low: int, oldest: int) -> sa.ColumnElement[bool]:
    """Whether the device of a row has a later state, as arrays or as a file, that round `oldest` has too.

    Only devices with a state of the rounds after `low` are looked at: of the others nothing new is superseded.
    """

    def lately(newer: sa.Table) -> sa.ColumnElement[bool]:
        rows = sa.select(newer.c.device).where(newer.c.run_id == run_id, newer.c.round > low, newer.c.round <= oldest)
        return table.c.device.in_(rows)

    def later(newer: sa.FromClause) -> sa.ColumnElement[bool]:
        same = sa.and_(newer.c.run_id == run_id, newer.c.device == table.c.device)
        return sa.exists().where(same, newer.c.round > table.c.round, newer.c.round <= oldest)

    return sa.and_(sa.or_(*map(lately, TABLES)), sa.or_(*(later(each.alias()) for each in TABLES)))


def _delete_files(db: sa.Connection, run_id: str, where: sa.ColumnElement[bool]) -> set[str]:
    return set(db.execute(FILES.delete().where(FILES.c.run_id == run_id, where).returning(FILES.c.name)).scalars())


def forget(db: sa.Connection, run_id: str, names: Collection[str]) -> None:
    """Forget the states that lie in these files."""
    for some in _some(names):
        db.execute(FILES.delete().where(FILES.c.run_id == run_id, FILES.c.name.in_(some)))


def named(db: sa.Connection, run_id: str, names: Collection[str] | None = None) -> set[str]:
    """Which of these files, or which at all, the run's kept rounds need."""
    found = sa.select(FILES.c.name).where(FILES.c.run_id == run_id)
    if names is None:
        return set(db.execute(found).scalars())
    needed = set[str]()
    for some in _some(names):
        needed |= set(db.execute(found.where(FILES.c.name.in_(some))).scalars())
    return needed


def _some(names: Collection[str]) -> Iterator[list[str]]:
    """The names, as many at once as a statement takes."""
    listed = sorted(names)
    for start in range(0, len(listed), IN_ONE_QUERY):
        yield listed[start : start + IN_ONE_QUERY]


def last_states(db: sa.Connection, run_id: str, round: int) -> dict[int, DeviceState]:
    """The last state of every device up to a round."""
    found: dict[int, tuple[int, DeviceState]] = {}
    for table in TABLES:
        newest = sa.select(table.c.device, sa.func.max(table.c.round).label("round"))
        last = newest.where(table.c.run_id == run_id, table.c.round <= round).group_by(table.c.device).subquery()
        here = sa.and_(table.c.device == last.c.device, table.c.round == last.c.round)
        for each in db.execute(sa.select(table).join(last, here).where(table.c.run_id == run_id)):
            if each.device not in found or found[each.device][0] < each.round:
                state = StateFile(each.name, each.nbytes) if table is FILES else load(each.arrays)
                found[each.device] = each.round, state
    return {device: found[device][1] for device in sorted(found)}
