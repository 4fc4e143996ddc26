"""From a configuration to a finished run: what can refuse is opened first, what must be closed is closed."""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

from rayfed.app.preparation import prepared
from rayfed.app.result import Result, resume_command, store_url
from rayfed.cluster.capacity import Capacity
from rayfed.cluster.connection import connected
from rayfed.cluster.session import RaySession
from rayfed.config import RunConfig, flatten, with_overrides
from rayfed.data.partition import union
from rayfed.data.setup import Federation
from rayfed.engine.callbacks import Callback, StoreCallback, TrackingCallback, Watcher
from rayfed.engine.checkpoint import Checkpoint, checkpoint_of
from rayfed.engine.driver import Driver, Stop
from rayfed.engine.lease import is_alive, process_facts
from rayfed.engine.session import LocalSession, Session
from rayfed.errors import UserError
from rayfed.events import Event, from_json
from rayfed.methods.spec import method_of
from rayfed.report.devices import devices_csv
from rayfed.report.events import events_csv
from rayfed.report.pictures import History, partition_heatmap, run_figure
from rayfed.report.seen import seen_csv, seen_figure, seen_of
from rayfed.scheduling.load import capabilities
from rayfed.store import Status, Store
from rayfed.tracking import NoTracker, Tracker, input_of, mask

PACKAGES = ("rayfed-gan", "torch", "torchvision", "ray", "mlflow", "numpy", "pytorch-fid")
MLFLOW_STATUS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
FREE = ("rounds", "evaluation.", "tracking.", "resources.", "ray.", "store.keep", "data.root")
"""Keys, or their beginnings, that change no committed round: what a resumed run may be told anew."""


class RunWatcher(Watcher, Protocol):
    """Who watches a run: `rayfed.console.display`."""

    def capacity(self, capacity: Capacity, scaling: bool) -> None:
        """What was asked of the cluster, and whether an autoscaler watches it."""

    def callback(self, config: RunConfig) -> Callback:
        """What hears of the rounds of a run."""


@dataclass(frozen=True)
class Part:
    """A run's place in a comparison."""

    name: str
    """The run's in the comparison."""
    tags: Mapping[str, str]
    stop: Stop
    """Of the whole comparison, which listens to the signals."""


def run(
    config: RunConfig,
    local: bool,
    watcher: RunWatcher,
    part: Part | None = None,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Begin a run, by itself or as a part of a comparison, and drive it to its end, or to Ctrl-C."""
    run_id = f"{_slug(config.method.name)}-{secrets.token_hex(3)}"
    federation = prepared(config, watcher.notice)
    store = Store(store_url(config))
    try:
        with _session(config, federation, local, watcher) as session:
            tracker = _tracker(run_id, config, federation, session, part=part)
            facts = _facts(config, federation) | process_facts()
            facts |= {"mlflow_run": tracker.run_id, "mlflow_uri": tracker.uri}
            store.create_run(run_id, config.model_dump(mode="json"), facts)
            stop = part.stop if part else None
            return OpenRun(run_id, config, federation, session, store, tracker, watcher, callbacks, stop).drive(None)
    finally:
        store.close()


def resume(
    run_id: str, config: RunConfig, store: Store, overrides: Iterable[str], local: bool, watcher: RunWatcher
) -> Result:
    """Go on from a run's last commit; `config` is the store's, its `runs_dir` where the run's files are now.

    `overrides` may change what no committed round depends on, such as `rounds`. Raises UserError for others, and for a
    run that is finished or still runs.
    """
    record = store.run(run_id)
    config = _changed(config, list(overrides), record.rounds or 0)
    if record.status == "finished" and config.rounds <= (record.rounds or 0):
        more = f"; `{resume_command(run_id, config)} rounds={2 * config.rounds}` goes on with it"
        raise UserError(f"run {run_id} is finished ({record.rounds} rounds); there is nothing to resume{more}")
    if record.status == "running" and is_alive(record.facts):
        raise UserError(f"run {run_id} is still running in process {record.facts['pid']}; stop that first")
    federation = prepared(config, watcher.notice)
    if federation.dataset.sha256 != record.facts["dataset_sha256"]:
        raise UserError(f"data.name = {config.data.name!r}: not the data that run {run_id} began with")
    with _session(config, federation, local, watcher) as session:
        tracker = _tracker(run_id, config, federation, session, mlflow_run=record.facts["mlflow_run"])
        tracked = {"mlflow_run": tracker.run_id, "mlflow_uri": tracker.uri} if tracker.run_id else {}
        store.update_facts(run_id, **process_facts(), **tracked)
        store.set_config(run_id, config.model_dump(mode="json"))
        store.set_status(run_id, "running")
        tracking = TrackingCallback(tracker, method_of(config).task.metrics)
        for round, metrics, _ in store.history(run_id):
            tracking.log(round, metrics)  # what was queued when the run was killed; the rest is not sent twice
        commit = store.latest(run_id)
        last = checkpoint_of(commit, method_of(config)) if commit else None
        return OpenRun(run_id, config, federation, session, store, tracker, watcher).drive(last)


def _changed(config: RunConfig, overrides: list[str], done: int) -> RunConfig:
    for override in overrides:
        if "=" in override and not override.startswith(tuple(f"{key}=" if key[-1] != "." else key for key in FREE)):
            allowed = ", ".join(f"{key}*" if key[-1] == "." else key for key in FREE)
            raise UserError(f"{override}: would change rounds that are committed; a resumed run takes {allowed} alone")
    config = with_overrides(config, overrides)
    if config.rounds < done:
        raise UserError(f"rounds = {config.rounds}: {done} rounds are committed; take at least as many")
    return config


def _slug(name: str) -> str:
    """A method's name in a run's id; of a dotted name the last part."""
    return name.rpartition(":")[0].rpartition(".")[2] if ":" in name else name


@contextmanager
def _session(config: RunConfig, federation: Federation, local: bool, watcher: RunWatcher) -> Iterator[Session]:
    if local:
        yield LocalSession(config, federation)
        return
    with connected(config.ray):
        yield RaySession(config, federation, watcher.capacity)


def _tracker(
    run_id: str,
    config: RunConfig,
    federation: Federation,
    session: Session,
    part: Part | None = None,
    mlflow_run: str | None = None,
) -> Tracker | NoTracker:
    tags = {"method": config.method.name, "dataset_sha256": federation.dataset.sha256}
    tags |= session.facts() | {f"version.{name}": version(name) for name in PACKAGES}
    if part:
        tags |= {"run": run_id, **part.tags}
    name = f"{part.name}, seed {config.seed} ({run_id})" if part else f"{run_id}, seed {config.seed}"
    tracker = open_tracker(config, name, flatten(config), tags, mlflow_run)
    tracker.log_input(input_of(federation.dataset))
    return tracker


def open_tracker(
    config: RunConfig, name: str, params: Mapping[str, Any], tags: Mapping[str, Any], mlflow_run: str | None = None
) -> Tracker | NoTracker:
    """An MLflow run where `config` says, or one that goes on; raises UserError as `Tracker` does."""
    if not config.tracking.enabled:
        return NoTracker()
    folder = Path(config.runs_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    masked = {key: mask(value) for key, value in params.items()}
    database, artifacts = f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts")
    return Tracker(config.tracking, database, artifacts, name, masked, tags, mlflow_run)


def _facts(config: RunConfig, federation: Federation) -> dict[str, Any]:
    """What the store keeps of a run beside its configuration: FeGAN's learning state (section 3.4) but the rounds."""
    population = federation.population
    return {
        "dataset_sha256": federation.dataset.sha256,
        "channels": population.channels,
        "class_counts": population.counts.tolist(),
        "union": population.union.tolist(),
        "whole": population.whole.tolist(),
        "capabilities": [vars(capability) for capability in capabilities(config.devices, config.seed)],
        "versions": {name: version(name) for name in PACKAGES},
    }


@dataclass
class OpenRun:
    """Everything a run holds open."""

    run_id: str
    config: RunConfig
    federation: Federation
    session: Session
    store: Store
    tracker: Tracker | NoTracker
    watcher: RunWatcher
    callbacks: Sequence[Callback] = ()
    """More than the store's, MLflow's and the watcher's."""
    stop: Stop | None = None
    """Whose signals are heard elsewhere. None means the run's own."""

    def drive(self, last: Checkpoint | None) -> Result:
        """Drive to the end, then the run's pictures and its trained network, whatever stopped it."""
        folder = Path(self.config.runs_dir).absolute() / self.run_id
        folder.mkdir(parents=True, exist_ok=True)
        population, classes = self.federation.population, self.federation.dataset.classes
        again = resume_command(self.run_id, self.config)
        status: Status = "failed"
        try:
            self.tracker.log_file(partition_heatmap(population.counts, classes, folder / "partition.png"))
            checkpoint = self._loop(folder, last)
            self._close_files(folder, checkpoint)
            status = "finished" if checkpoint.round >= self.config.rounds else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
            self._log_tables(folder)
        except Exception:
            kept = self.store.latest(self.run_id)
            if kept and kept.round:
                self._log_tables(folder)
                self.watcher.notice(f"run {self.run_id} failed; its rounds are kept: {again}")
            raise
        finally:
            self.store.set_status(self.run_id, status)
            if unsent := self.tracker.close(MLFLOW_STATUS[status]):
                self.watcher.notice(unsent)
        return Result(
            run_id=self.run_id,
            status=status,
            config=self.config,
            history=self.store.history(self.run_id),
            folder=folder,
            store=store_url(self.config),
            population=population,
            mlflow=self.tracker.look(),
            resume=None if status == "finished" else again,
        )

    def _loop(self, folder: Path, last: Checkpoint | None) -> Checkpoint:
        parts, pools = self.federation.parts, self.config.method.pools_data
        epoch = len(union(parts)) if pools else sum(map(len, parts))
        callbacks = [
            StoreCallback(self.store, self.run_id, self.config.store.keep),
            TrackingCallback(self.tracker, method_of(self.config).task.metrics),
            self.watcher.callback(self.config),
            *self.callbacks,
        ]
        driver = Driver(self.config, self.session, callbacks, self.watcher.notice, folder, epoch)
        stopping = nullcontext(self.stop) if self.stop else Stop().listening()
        with stopping as driver.stop, self.watcher.live(last.round if last else 0):
            return driver.drive(last)

    def _rounds(self) -> History:
        return [(round, metrics) for round, metrics, _ in self.store.history(self.run_id)]

    def _log_tables(self, folder: Path) -> None:
        """What happened, and what was seen of each class, if anything."""
        events: list[tuple[int, Event]] = [(round, from_json(data)) for round, data in self.store.events(self.run_id)]
        if events:
            self.tracker.log_file(events_csv(events, folder / "events.csv"))
        if seen := seen_of(self._rounds()):
            classes = self.federation.dataset.classes
            self.tracker.log_file(seen_csv(seen, classes, folder / "seen_class.csv"))
            self.tracker.log_file(seen_figure(seen, classes, folder / "seen_class.png"))

    def _close_files(self, folder: Path, checkpoint: Checkpoint) -> None:
        spec, population = method_of(self.config), self.federation.population
        names, samples = spec.topology(self.config).names, population.counts.sum(axis=1).tolist()
        self.tracker.log_file(devices_csv(checkpoint.twin, names, samples, folder / "devices.csv"))
        self._log_tables(folder)
        self.tracker.log_file(run_figure(self._rounds(), spec.task.metrics, folder / "run.png", self.run_id))
        for name, source in self.session.about_evaluator().items():
            self.tracker.set_tag(name, source)
        self.tracker.log_model(*spec.task.export(self.config, population, checkpoint.state.arrays))
