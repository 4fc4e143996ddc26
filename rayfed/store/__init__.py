"""The learning state of runs in a database: after every round one transaction, so a killed run resumes where it was.

SQLite by default, PostgreSQL for a cluster. Arrays are stored as safetensors and come back bit for bit; of a device's
state that is a file (`rayfed.fleet.states`) the store has the name.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from safetensors.numpy import load

from rayfed.errors import UserError, mask
from rayfed.fleet.folders import Arrays
from rayfed.fleet.states import pack
from rayfed.schema import EVENTS, LEASES, OF_ROUNDS, OUTCOMES, ROUNDS, RUNS, STATES, prepare
from rayfed.store import devices, leases
from rayfed.store.devices import DeviceState
from rayfed.store.engine import connect
from rayfed.store.leases import Holder, LeaseLostError

__all__ = ["Commit", "DeviceState", "Holder", "LeaseLostError", "RunRecord", "Status", "Store"]
Status = Literal["running", "interrupted", "failed", "finished"]


@dataclass(frozen=True)
class Commit:
    """Everything one round leaves behind."""

    round: int
    """Rounds finished so far; 0 is the initial state."""
    arrays: Arrays
    """The server's learning state (models, optimizers): any shape, any dtype that safetensors knows."""
    facts: dict[str, Any]
    """What else the server must remember, as JSON (string keys, finite numbers): sampler queues, seen counts."""
    devices: dict[int, DeviceState]
    """States of the devices that changed in this round; from the store, of every device that ever had one."""
    metrics: dict[str, float]
    """NaN and infinities survive."""
    participants: list[int]
    events: list[dict[str, Any]] = field(default_factory=list)
    """What happened in this round, as JSON."""
    outcome: Arrays | None = None
    """What the task judges, if this round is to be judged; `Store.outcomes` has it."""
    tables: Arrays = field(default_factory=dict)
    """Arrays among what else the server must remember: a value for each device, for instance."""


@dataclass(frozen=True)
class RunRecord:
    """One run as the store knows it; times in UTC."""

    id: str
    created: datetime
    updated: datetime
    status: Status
    config: dict[str, Any]
    facts: dict[str, Any]
    rounds: int | None
    """Committed so far. None means that not even the initial state is."""
    holder: Holder | None = None
    """Who holds its lease; None if nobody does, or it has run out."""


class Store:
    """The runs in one database; threads may share it. A method that writes to an unknown run raises UserError.

    After `take_lease` whatever writes to that run raises LeaseLostError once another store has taken the lease.
    """

    def __init__(self, url: str) -> None:
        """Open a SQLAlchemy URL; a new store, and a SQLite file's folder, are made, an older store is migrated.

        Raises UserError if that fails, or if a later rayfed has written the store.
        """
        self.url: str = mask(url)
        self._tokens: dict[str, int] = {}
        """Of the runs whose lease this store has taken."""
        try:
            self._engine = connect(sa.make_url(url))
            prepare(self._engine, self.url)
        except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise UserError(
                f"store.url = {self.url!r}: cannot be used ({reason}); it must be a SQLAlchemy URL such as "
                "sqlite:///runs/store.db or postgresql+psycopg://user@host/database"
            ) from None
        self._reader = self._engine.execution_options(isolation_level="SERIALIZABLE")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def create_run(self, run_id: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Add a run with status `running`; config and facts are JSON. Raises UserError if the id is taken."""
        row = {"id": run_id, "created": _now(), "updated": _now(), "status": "running"}
        try:
            with self._engine.begin() as db:
                db.execute(RUNS.insert().values(row | {"config": dict(config), "facts": dict(facts)}))
        except sa.exc.IntegrityError:
            raise UserError(f"run {run_id!r} is already in {self.url}; take another name") from None

    def take_lease(
        self, run_id: str, holder: Holder, seconds: float, is_dead: Callable[[Holder], bool] = lambda holder: False
    ) -> None:
        """Become the one who writes to a run, for so many seconds; see `rayfed.store.leases.take`."""
        with self._writing(run_id, fenced=False) as db:
            token = leases.take(db, run_id, holder, seconds, is_dead)
        self._tokens[run_id] = token

    def renew_lease(self, run_id: str, seconds: float) -> None:
        """Keep it for so many seconds from now; 0 gives it back."""
        with self._writing(run_id) as db:
            leases.renew(db, run_id, seconds)

    def set_status(self, run_id: str, status: Status) -> None:
        """Say how the run stands."""
        with self._writing(run_id) as db:
            db.execute(RUNS.update().where(RUNS.c.id == run_id).values(status=status))

    def update_facts(self, run_id: str, **facts: Any) -> None:
        """Merge JSON values into the run's facts."""
        with self._writing(run_id) as db:
            old = db.execute(sa.select(RUNS.c.facts).where(RUNS.c.id == run_id)).scalar_one()
            db.execute(RUNS.update().where(RUNS.c.id == run_id).values(facts=old | facts))

    def set_config(self, run_id: str, config: Mapping[str, Any]) -> None:
        """Replace the run's configuration, which is JSON."""
        with self._writing(run_id) as db:
            db.execute(RUNS.update().where(RUNS.c.id == run_id).values(config=dict(config)))

    def remove(self, run_id: str) -> None:
        """Forget a run and all of its rounds."""
        with self._writing(run_id) as db:
            for table in (*OF_ROUNDS, LEASES):
                db.execute(table.delete().where(table.c.run_id == run_id))
            db.execute(RUNS.delete().where(RUNS.c.id == run_id))
        self._tokens.pop(run_id, None)

    def commit(self, run_id: str, commit: Commit, keep: int) -> set[str]:
        """Write a round in one transaction and drop states that none of the last `keep` rounds needs.

        The same round again replaces it; whatever the store holds of later rounds is an abandoned future and goes.
        Returns the names of state files that no kept round needs any more.
        """
        key = {"run_id": run_id, "round": commit.round}
        metrics = {"metrics": _encode(commit.metrics), "participants": commit.participants}
        state = {"facts": commit.facts, "arrays": pack(commit.arrays), "tables": pack(commit.tables)}
        events = [key | {"number": number, "data": data} for number, data in enumerate(commit.events)]
        with self._writing(run_id) as db:
            dropped = devices.drop_from(db, run_id, commit.round)
            for table in OF_ROUNDS:
                db.execute(table.delete().where(table.c.run_id == run_id, table.c.round >= commit.round))
            db.execute(ROUNDS.insert().values(key | metrics))
            db.execute(STATES.insert().values(key | state))
            devices.insert(db, run_id, commit.round, commit.devices)
            if events:
                db.execute(EVENTS.insert(), events)
            if commit.outcome is not None:
                db.execute(OUTCOMES.insert().values(key | {"arrays": pack(commit.outcome)}))
            dropped |= devices.prune(db, run_id, keep)
            return dropped - devices.named(db, run_id, dropped)

    def rewind(self, run_id: str, round: int) -> None:
        """Forget all rounds after this one."""
        with self._writing(run_id) as db:
            for table in OF_ROUNDS:
                db.execute(table.delete().where(table.c.run_id == run_id, table.c.round > round))

    def forget_files(self, run_id: str, names: Collection[str]) -> None:
        """Forget these state files: their devices have no state then."""
        with self._writing(run_id) as db:
            devices.forget(db, run_id, names)

    def files(self, run_id: str, names: Collection[str] | None = None) -> set[str]:
        """The names of the state files, or of those among `names`, that the kept rounds of a run need."""
        with self._reader.begin() as db:
            return devices.named(db, run_id, names)

    def states(self, run_id: str) -> list[int]:
        """The rounds from which the run can be restored, in order."""
        with self._reader.begin() as db:
            rows = sa.select(STATES.c.round).where(STATES.c.run_id == run_id).order_by(STATES.c.round)
            return list(db.execute(rows).scalars())

    def outcomes(self, run_id: str) -> list[int]:
        """The rounds of which there is what the task judges, in order."""
        with self._reader.begin() as db:
            rows = sa.select(OUTCOMES.c.round).where(OUTCOMES.c.run_id == run_id).order_by(OUTCOMES.c.round)
            return list(db.execute(rows).scalars())

    def outcome(self, run_id: str, round: int) -> Arrays | None:
        """What the task judges, as it was after a round; None if it is not kept."""
        with self._reader.begin() as db:
            kept = sa.select(OUTCOMES.c.arrays).where(OUTCOMES.c.run_id == run_id, OUTCOMES.c.round == round)
            arrays = db.execute(kept).scalar_one_or_none()
        return None if arrays is None else load(arrays)

    def latest(self, run_id: str, until: int | None = None) -> Commit | None:
        """The last kept commit, or the last up to round `until`, with the state every device had then; None if none."""
        at = sa.select(sa.func.max(STATES.c.round)).where(STATES.c.run_id == run_id)
        with self._reader.begin() as db:
            last = db.execute(at if until is None else at.where(STATES.c.round <= until)).scalar_one()
            return None if last is None else _restore(db, run_id, last)

    def run(self, run_id: str) -> RunRecord:
        """One run. Raises UserError if there is none of that id."""
        with self._reader.begin() as db:
            if found := _records(db, RUNS.c.id == run_id):
                return found[0]
            raise self._unknown(run_id)

    def runs(self) -> list[RunRecord]:
        """All runs, oldest first."""
        with self._reader.begin() as db:
            return _records(db)

    def history(self, run_id: str) -> list[tuple[int, dict[str, float], list[int]]]:
        """(round, metrics, participants) of every committed round, in order; round 0 is the initial state."""
        with self._reader.begin() as db:
            rows = db.execute(ROUNDS.select().where(ROUNDS.c.run_id == run_id).order_by(ROUNDS.c.round))
            return [(row.round, _decode(row.metrics), row.participants) for row in rows]

    def events(self, run_id: str) -> list[tuple[int, dict[str, Any]]]:
        """(round, event) of everything that happened in a run, in order."""
        with self._reader.begin() as db:
            rows = db.execute(
                EVENTS.select().where(EVENTS.c.run_id == run_id).order_by(EVENTS.c.round, EVENTS.c.number)
            )
            return [(row.round, row.data) for row in rows]

    def set_metric(
        self, run_id: str, round: int, metrics: Mapping[str, float], superseded: Collection[int] = ()
    ) -> None:
        """Merge metrics that come after the round's commit (an FID) into it. Raises KeyError if it is not there.

        What the task judges of the rounds that are `superseded` is dropped.
        """
        where = sa.and_(ROUNDS.c.run_id == run_id, ROUNDS.c.round == round)
        with self._writing(run_id) as db:
            old = db.execute(sa.select(ROUNDS.c.metrics).where(where)).scalar_one_or_none()
            if old is None:
                raise KeyError(f"run {run_id!r} has no round {round}")
            db.execute(ROUNDS.update().where(where).values(metrics=old | _encode(metrics)))
            if superseded:
                db.execute(OUTCOMES.delete().where(OUTCOMES.c.run_id == run_id, OUTCOMES.c.round.in_(superseded)))

    @contextmanager
    def _writing(self, run_id: str, fenced: bool = True) -> Iterator[sa.Connection]:
        """A transaction whose first statement, an update of the run's row, locks out the run's other writers.

        Raises UserError where the database cannot take it: its disk is full, or its server is gone; and LeaseLostError,
        if `fenced`, where another store has taken the lease that this one had.
        """
        try:
            with self._engine.begin() as db:
                if db.execute(RUNS.update().where(RUNS.c.id == run_id).values(updated=_now())).rowcount == 0:
                    raise self._unknown(run_id)
                if fenced and run_id in self._tokens:
                    leases.check(db, run_id, self._tokens[run_id])
                yield db
        except sa.exc.OperationalError as error:
            raise UserError(f"{self.url}: cannot be written ({str(error.orig).strip()})") from None

    def _unknown(self, run_id: str) -> UserError:
        return UserError(
            f"no run {run_id!r} in {self.url}; `rayfed list` shows the runs there are, --runs-dir names another folder"
        )


def _restore(db: sa.Connection, run_id: str, round: int) -> Commit:
    state, row = (db.execute(t.select().filter_by(run_id=run_id, round=round)).one() for t in (STATES, ROUNDS))
    here = sa.and_(EVENTS.c.run_id == run_id, EVENTS.c.round == round)
    events = list(db.execute(sa.select(EVENTS.c.data).where(here).order_by(EVENTS.c.number)).scalars())
    return Commit(
        round,
        load(state.arrays),
        state.facts,
        devices.last_states(db, run_id, round),
        _decode(row.metrics),
        row.participants,
        events,
        tables=load(state.tables) if state.tables else {},
    )


def _records(db: sa.Connection, *where: sa.ColumnElement[bool]) -> list[RunRecord]:
    last = sa.select(sa.func.max(ROUNDS.c.round)).where(ROUNDS.c.run_id == RUNS.c.id).scalar_subquery()
    query = sa.select(RUNS, last.label("rounds")).where(*where).order_by(RUNS.c.created, RUNS.c.id)
    rows, holders = [dict(row) for row in db.execute(query).mappings()], leases.holders(db)
    times = [{at: row[at].replace(tzinfo=UTC) for at in ("created", "updated")} for row in rows]
    return [RunRecord(**row | at, holder=holders.get(row["id"])) for row, at in zip(rows, times, strict=True)]


def _now() -> datetime:
    """The time in UTC, without its zone: SQLite would drop it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _encode(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """JSON has no NaN: what is not finite is stored as the text `nan`, `inf` or `-inf`."""
    numbers = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}


def _decode(metrics: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}
