"""From a configuration to a finished run: what can refuse is opened first, what must be closed is closed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rayfed import tracking
from rayfed.app.beginning import Begun, begun
from rayfed.app.initial import initial_networks
from rayfed.app.open_run import OpenRun, RunWatcher
from rayfed.app.restore import checkpoint_to_resume
from rayfed.app.result import Result, resume_command, states_of, store_url
from rayfed.app.runs import new_id, refuse_driven
from rayfed.cluster.capacity import Capacity
from rayfed.cluster.connection import connected
from rayfed.cluster.pool import ActorPool
from rayfed.cluster.session import RaySession
from rayfed.config import RunConfig, flatten, with_overrides
from rayfed.data.setup import Federation
from rayfed.engine.callbacks import Callback
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.driver import Stop
from rayfed.engine.lease import driving
from rayfed.engine.session import LocalSession, Session
from rayfed.errors import UserError, counted, mask
from rayfed.fleet.states import StateFolder
from rayfed.scheduling.load import capabilities
from rayfed.store import RunRecord, Store
from rayfed.tracking import NoTracker, Tracker
from rayfed.tracking.origin import input_of

PACKAGES = ("rayfed-gan", "torch", "torchvision", "ray", "mlflow", "numpy", "pytorch-fid")
FREE = ("rounds", "stop.", "evaluation.", "tracking.", "resources.", "ray.", "store.keep", "store.states", "data.root")
"""Keys, or their beginnings, that change no committed round: what a resumed run may be told anew."""


@dataclass(frozen=True)
class Part:
    """A run's place in a comparison."""

    name: str
    """The run's in the comparison."""
    tags: Mapping[str, str]
    facts: Mapping[str, Any]
    """For the store, which comparison it is, and the run's name in it."""
    stop: Stop
    """Of the whole comparison, which listens to the signals."""
    pool: ActorPool
    """The comparison's actors."""


def run(
    config: RunConfig,
    beginning: Begun,
    local: bool,
    watcher: RunWatcher,
    part: Part | None = None,
    callbacks: Sequence[Callback] = (),
    run_id: str | None = None,
) -> Result:
    """Begin a run, by itself or as a part of a comparison, and drive it to its end, or to Ctrl-C.

    MLflow has all of it when `beginning.last` is closed. Raises UserError for a `run_id` that is taken.
    """
    run_id = run_id or new_id(config.method.name)
    federation, states = beginning.federation, states_of(run_id, config)
    store = Store(store_url(config))
    try:
        if any(record.id == run_id for record in store.runs()):
            raise UserError(f"run {run_id!r} is already in {store.url}; take another id, or `rayfed resume` it")
        initial = initial_networks(config, federation.population, store)
        with _session(config, federation, states, local, watcher, part.pool if part else None) as session:
            tracker = _tracker(run_id, config, federation, session, part=part)
            facts = _facts(config, federation) | dict(part.facts if part else {})
            facts |= {"mlflow_run": tracker.run_id, "mlflow_uri": tracker.uri}
            store.create_run(run_id, config.model_dump(mode="json"), facts)
            stop = part.stop if part else None
            opened = OpenRun(run_id, config, federation, states, session, store, tracker, watcher, callbacks, stop)
            beginning.last.callback(flush, tracker, watcher.notice)
            with driving(store, run_id):
                return opened.drive(None, initial=initial)
    finally:
        store.close()


def resume(
    run_id: str,
    config: RunConfig,
    store: Store,
    overrides: Iterable[str],
    local: bool,
    watcher: RunWatcher,
    callbacks: Sequence[Callback] = (),
    round: int | None = None,
    drop_damaged: bool = False,
) -> Result:
    """Go on from a run's last commit; `config` is the store's, its `runs_dir` where the run's files are now.

    `overrides` may change what no committed round depends on, such as `rounds`. `round` and `drop_damaged`: see
    `checkpoint_to_resume`. Raises UserError for other overrides, and for a run that is finished or still runs.
    """
    record = store.run(run_id)
    chosen = list(overrides)
    config = _changed(config, chosen, record.rounds or 0 if round is None else round)
    told = any(override.startswith(("rounds=", "stop")) for override in chosen) or round is not None
    _refuse_finished(record, config, record.rounds or 0 if round is None else round, told)
    refuse_driven(record)
    states = states_of(run_id, config)
    restore = partial(checkpoint_to_resume, store, run_id, config, states, watcher.notice, round, drop_damaged)
    with begun(config, local, watcher) as beginning:
        return _go_on(record, config, beginning, states, restore, store, local, watcher, callbacks)


def _go_on(
    record: RunRecord,
    config: RunConfig,
    beginning: Begun,
    states: StateFolder,
    restore: Callable[[], Checkpoint | None],
    store: Store,
    local: bool,
    watcher: RunWatcher,
    callbacks: Sequence[Callback],
) -> Result:
    run_id, federation = record.id, beginning.federation
    if federation.dataset.sha256 != record.facts["dataset_sha256"]:
        raise UserError(f"data.name = {config.data.name!r}: not the data that run {run_id} began with")
    if federation.partition_sha256 != record.facts.get("partition_sha256", federation.partition_sha256):
        raise UserError(f"data.partition = {config.data.partition!r}: not the partition that run {run_id} began with")
    with driving(store, run_id):
        last = restore()
        with _session(config, federation, states, local, watcher) as session:
            until, old = last.round if last else None, record.facts["mlflow_run"]
            tracker = _tracker(run_id, config, federation, session, mlflow_run=old, until=until)
            tracked = {"mlflow_run": tracker.run_id, "mlflow_uri": tracker.uri} if tracker.run_id else {}
            store.update_facts(run_id, **tracked, stop_reason=None)
            store.set_config(run_id, config.model_dump(mode="json"))
            store.set_status(run_id, "running")
            opened = OpenRun(run_id, config, federation, states, session, store, tracker, watcher, callbacks)
            beginning.last.callback(flush, tracker, watcher.notice)
            return opened.drive(last)


def _refuse_finished(record: RunRecord, config: RunConfig, done: int, told: bool) -> None:
    """Raise UserError for a finished run that is not `told` to go on, or has all of its rounds `done`."""
    command, reason = resume_command(record.id, config), record.facts.get("stop_reason")
    if record.status != "finished" or (told and config.rounds > done):
        return
    ended = f"run {record.id} is finished ({counted(done, 'round')}); there is nothing to resume"
    if reason and config.rounds > done:
        raise UserError(f"{ended}: {reason}; `{command} stop=` goes on with it")
    raise UserError(f"{ended}; `{command} rounds={2 * config.rounds}` goes on with it")


def _changed(config: RunConfig, overrides: list[str], done: int) -> RunConfig:
    for override in overrides:
        if "=" in override and not _is_free(override):
            allowed = ", ".join(f"{key}*" if key[-1] == "." else key for key in FREE)
            raise UserError(f"{override}: would change rounds that are committed; a resumed run takes {allowed} alone")
    config = with_overrides(config, overrides)
    if config.rounds < done:
        raise UserError(f"rounds = {config.rounds}: {done} rounds are committed; take at least as many")
    return config


def _is_free(override: str) -> bool:
    sections = [key for key in FREE if key.endswith(".")]
    unset = override.removesuffix("=") + "."
    return override.startswith((*sections, *(f"{key}=" for key in FREE))) or unset in sections


@contextmanager
def _session(
    config: RunConfig,
    federation: Federation,
    states: StateFolder,
    local: bool,
    watcher: RunWatcher,
    pool: ActorPool | None = None,
) -> Iterator[Session]:
    if local:
        yield LocalSession(config, federation, states)
        return

    def report(capacity: Capacity, scaling: bool) -> None:
        watcher.capacity(capacity, scaling)
        watcher.waits_for("starting the actors")

    with connected(config.ray):
        session = RaySession(config, federation, report, pool, states, watcher.notice)
        try:
            yield session
        except BaseException:
            session.end()
            raise
        session.close()


def _tracker(
    run_id: str,
    config: RunConfig,
    federation: Federation,
    session: Session,
    part: Part | None = None,
    mlflow_run: str | None = None,
    until: int | None = None,
) -> Tracker | NoTracker:
    tags = {"method": config.method.name, "data": federation.dataset.name, "partition": config.data.partition}
    tags |= {"network": config.model.name, "dataset_sha256": federation.dataset.sha256}
    tags |= session.facts() | {f"version.{name}": version(name) for name in PACKAGES}
    if part:
        tags |= {"run": run_id, **part.tags}
    name = f"{part.name}, seed {config.seed} ({run_id})" if part else f"{run_id}, seed {config.seed}"
    tracker = open_tracker(config, name, flatten(config), tags, mlflow_run, until)
    tracker.log_input(input_of(federation.dataset))
    return tracker


def flush(tracker: Tracker | NoTracker, notice: Callable[[str], None]) -> None:
    """Wait until MLflow has what was queued; what it does not take is told."""
    if unsent := tracker.wait():
        notice(unsent)


def open_database(config: RunConfig) -> None:
    """See `rayfed.tracking.open_database`."""
    if config.tracking.enabled:
        tracking.open_database(config.tracking, _database(config))


def _database(config: RunConfig) -> str:
    """MLflow's, where no other is configured."""
    return f"sqlite:///{Path(config.runs_dir).absolute() / 'mlflow.db'}"


def open_tracker(
    config: RunConfig,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    mlflow_run: str | None = None,
    until: int | None = None,
) -> Tracker | NoTracker:
    """An MLflow run where `config` says, or one that goes on; raises UserError as `Tracker` does."""
    if not config.tracking.enabled:
        return NoTracker()
    folder = Path(config.runs_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    masked = {key: mask(value) for key, value in params.items()}
    artifacts = str(folder / "artifacts")
    return Tracker(config.tracking, _database(config), artifacts, name, masked, tags, mlflow_run, until)


def _facts(config: RunConfig, federation: Federation) -> dict[str, Any]:
    """What the store keeps of a run beside its configuration: FeGAN's learning state (section 3.4) but the rounds."""
    population = federation.population
    return {
        "dataset_sha256": federation.dataset.sha256,
        "partition_sha256": federation.partition_sha256,
        "channels": population.channels,
        "class_counts": population.counts.tolist(),
        "union": population.union.tolist(),
        "whole": population.whole.tolist(),
        "capabilities": [vars(capability) for capability in capabilities(config.devices, config.seed)],
        "versions": {name: version(name) for name in PACKAGES},
    }
