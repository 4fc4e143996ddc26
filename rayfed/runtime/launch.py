"""From a configuration to a finished run: what can refuse is opened first, what must be closed is closed."""

import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rayfed.algorithms import METHODS
from rayfed.config import Centralized, FslGan, RunConfig, flatten
from rayfed.data.partition import union
from rayfed.data.setup import Federation, prepare, small_devices
from rayfed.errors import UserError
from rayfed.evaluation import evaluator
from rayfed.models.gan import cpu_has_bf16, gan_of
from rayfed.models.networks import ARCHITECTURES
from rayfed.report.devices import devices_csv, events_csv
from rayfed.report.pictures import partition_heatmap, run_figure
from rayfed.runtime.cluster import connected
from rayfed.runtime.driver import TOLD, Driver, Listener, Stop
from rayfed.runtime.owner import is_alive, process_facts
from rayfed.runtime.session import LocalSession, RaySession, Session, blocks_of
from rayfed.runtime.simulation import Simulation, check_memory
from rayfed.scheduling.load import capabilities
from rayfed.scheduling.scheduler import Scheduler
from rayfed.store import Commit, Status, Store
from rayfed.tracking import NoTracker, Tracker, mask

PACKAGES = ("rayfed-gan", "torch", "torchvision", "ray", "mlflow", "numpy", "pytorch-fid")
MLFLOW_STATUS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


@dataclass(frozen=True)
class Part:
    """A run's place in a comparison."""

    name: str
    """In MLflow."""
    tags: Mapping[str, str]
    stop: Stop
    """Of the whole comparison, which listens to the signals."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    run_id: str
    status: Status
    history: list[tuple[int, dict[str, float], list[int]]]
    folder: Path
    mlflow: str | None
    """How to look at the run in MLflow."""
    resume: str | None
    """The command that goes on with it; None when it is finished."""

    def summary(self) -> dict[str, Any]:
        """The run in figures: FID first, best and last, images/s, bytes per round, rounds, where to look."""
        rounds = [metrics for _, metrics, _ in self.history[1:]]
        figures: dict[str, Any] = {"run": self.run_id, "status": self.status, "rounds": len(rounds)}
        for name in ("fid", "fid_classifier"):
            if fids := [metrics[name] for metrics in rounds if name in metrics]:
                figures[name] = {"first": fids[0], "best": min(fids), "last": fids[-1]}
        if rounds:
            seconds = sum(metrics["seconds"] for metrics in rounds)
            figures["images_per_s"] = sum(metrics["images"] for metrics in rounds) / seconds
            figures["bytes_up_per_round"] = sum(metrics["bytes_up"] for metrics in rounds) / len(rounds)
            figures["bytes_down_per_round"] = sum(metrics["bytes_down"] for metrics in rounds) / len(rounds)
        grids = sorted(self.folder.glob("samples-*.png"))
        samples = os.path.relpath(grids[-1]) if grids else None
        return figures | {"samples": samples, "mlflow": self.mlflow, "resume": self.resume}


def store_url(config: RunConfig) -> str:
    """The store's URL: configured, or SQLite in the runs folder."""
    return config.store.url or f"sqlite:///{Path(config.runs_dir).absolute() / 'rayfed.db'}"


def start(config: RunConfig, local: bool, listener: Listener, part: Part | None = None) -> Result:
    """Begin a run, by itself or as a part of a comparison, and drive it to its end, or to Ctrl-C."""
    run_id = f"{config.method.name}-{secrets.token_hex(3)}"
    federation = prepared(config, listener)
    store = Store(store_url(config))
    try:
        with _session(config, federation, local, listener) as session:
            tracker = _tracker(run_id, config, federation, session, part=part)
            facts = _facts(config, federation) | process_facts()
            facts |= {"mlflow_run": tracker.run_id, "mlflow_uri": tracker.uri}
            store.create_run(run_id, config.model_dump(mode="json"), facts)
            run = _Run(run_id, config, federation, session, store, tracker, listener, part.stop if part else None)
            return run.drive(None)
    finally:
        store.close()


def resume_command(run_id: str, config: RunConfig, store: Store) -> str:
    """The command that goes on with a run; it names the store unless that is where `rayfed resume` looks by itself."""
    parts = ["rayfed", "resume", run_id]
    if config.store.url:
        parts += ["--store", store.url]
    elif config.runs_dir != RunConfig.model_fields["runs_dir"].default:
        parts += ["--runs-dir", config.runs_dir]
    return shlex.join(parts)


def resume(run_id: str, config: RunConfig, store: Store, local: bool, listener: Listener) -> Result:
    """Go on from a run's last commit; `config` is the store's, its `runs_dir` where the run's files are now."""
    record = store.run(run_id)
    if record.status == "finished":
        raise UserError(f"run {run_id} is finished ({record.rounds} rounds); there is nothing to resume")
    if is_alive(record.facts):
        raise UserError(f"run {run_id} is still running in process {record.facts['pid']}; stop that first")
    federation = prepared(config, listener)
    if federation.dataset.sha256 != record.facts["dataset_sha256"]:
        raise UserError(f"data.name = {config.data.name!r}: not the data that run {run_id} began with")
    with _session(config, federation, local, listener) as session:
        tracker = _tracker(run_id, config, federation, session, mlflow_run=record.facts["mlflow_run"])
        store.update_facts(run_id, **process_facts())
        store.set_status(run_id, "running")
        for round, metrics, _ in store.history(run_id):
            tracker.log(round, metrics)  # what was queued when the run was killed; the rest is not sent twice
        run = _Run(run_id, config, federation, session, store, tracker, listener)
        return run.drive(store.latest(run_id))


def prepared(config: RunConfig, listener: Listener) -> Federation:
    """The data on its devices, and notices on what the user may not expect; raises UserError for what cannot be."""
    Simulation(config)  # refuses a network that lacks a route
    federation = prepare(config, ARCHITECTURES[config.model.name].side)
    _check_memory(config, federation)
    _check_clients(config, federation, listener)
    if config.evaluation.every and (notice := evaluator.check(config.evaluation)):
        listener.notice(notice)
    small = small_devices(federation, config.method.batch)
    if small and not isinstance(config.method, Centralized):
        listener.notice(
            f"{small} of {config.devices.count} devices hold fewer than method.batch = {config.method.batch} images "
            "and train on batches of all they have"
        )
    if config.model.precision == "bf16" and not cpu_has_bf16() and not config.resources.device_host.num_gpus:
        listener.notice("model.precision = bf16: this CPU emulates bfloat16, many times slower than float32")
    return federation


def _check_memory(config: RunConfig, federation: Federation) -> None:
    """FSL-GAN's devices have capacities of their own, and its plan heeds them."""
    method = METHODS[config.method.name]
    if isinstance(config.method, FslGan) or not any(profile.memory for profile in config.twin.devices):
        return
    dataset = federation.dataset
    gan = gan_of(config, dataset.train_images.shape[1], len(dataset.classes))
    values = {name: sum(sizes) for name, sizes in gan.sizes.items()}
    trained = sum(values[name] for name in method.trains)
    check_memory(config, trained, sum(values.values()) - trained if config.method.name == "ren" else 0)


def _check_clients(config: RunConfig, federation: Federation, listener: Listener) -> None:
    """Tell of FSL-GAN's clients that can take no part; raise UserError when that is all of them."""
    if not isinstance(config.method, FslGan):
        return
    misfits = Scheduler(config, federation.counts, blocks_of(config, federation)).misfits()
    told = [f"client {name}: {reason}" for name, reason in misfits.items()]
    if len(told) == config.devices.count:
        raise UserError(f"method.table: no client fits; {told[0]}")
    for text in told[:TOLD]:
        listener.notice(f"takes no part: {text}")
    if len(told) > TOLD:
        listener.notice(f"take no part: {len(told) - TOLD} more clients; see rayfed plan")


@contextmanager
def _session(config: RunConfig, federation: Federation, local: bool, listener: Listener) -> Iterator[Session]:
    if local:
        yield LocalSession(config, federation)
        return
    with connected(config.ray):
        session = RaySession(config, federation, listener.capacity)
        yield session


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
    return open_tracker(config, part.name if part else run_id, flatten(config), tags, mlflow_run)


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
    return {
        "dataset_sha256": federation.dataset.sha256,
        "channels": federation.dataset.train_images.shape[1],
        "class_counts": federation.counts.tolist(),
        "capabilities": [vars(capability) for capability in capabilities(config.devices, config.seed)],
        "versions": {name: version(name) for name in PACKAGES},
    }


@dataclass
class _Run:
    """Everything a run holds open."""

    run_id: str
    config: RunConfig
    federation: Federation
    session: Session
    store: Store
    tracker: Tracker | NoTracker
    listener: Listener
    stop: Stop | None = None
    """Whose signals are heard elsewhere; none: the run's own."""

    def drive(self, last: Commit | None) -> Result:
        """Drive to the end, then the run's pictures and its generator, whatever stopped it."""
        folder = Path(self.config.runs_dir).absolute() / self.run_id
        folder.mkdir(parents=True, exist_ok=True)
        dataset = self.federation.dataset
        again = resume_command(self.run_id, self.config, self.store)
        status: Status = "failed"
        try:
            self.tracker.log_file(partition_heatmap(self.federation.counts, dataset.classes, folder / "partition.png"))
            commit = self._loop(folder, last)
            self._close_files(folder, commit)
            status = "finished" if commit.round >= self.config.rounds else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
        except Exception:
            kept = self.store.latest(self.run_id)
            if kept and kept.round:
                self._log_events(folder, kept)
                self.listener.notice(f"run {self.run_id} failed; its rounds are kept: {again}")
            raise
        finally:
            self.store.set_status(self.run_id, status)
            if unsent := self.tracker.close(MLFLOW_STATUS[status]):
                self.listener.notice(unsent)
        history, command = self.store.history(self.run_id), None if status == "finished" else again
        return Result(self.run_id, status, history, folder, self.tracker.look(), command)

    def _loop(self, folder: Path, last: Commit | None) -> Commit:
        centralized = isinstance(self.config.method, Centralized)
        epoch = len(union(self.federation.parts)) if centralized else sum(map(len, self.federation.parts))
        driver = Driver(self.run_id, self.config, self.session, self.store, self.tracker, self.listener, folder, epoch)
        stopping = nullcontext(self.stop) if self.stop else Stop().listening()
        with stopping as driver.stop, self.listener.live(last.round if last else 0):
            return driver.drive(last)

    def _log_events(self, folder: Path, commit: Commit) -> None:
        if events := commit.facts["events"]:
            self.tracker.log_file(events_csv(events, folder / "events.csv"))

    def _close_files(self, folder: Path, commit: Commit) -> None:
        method, samples = self.config.method, self.federation.counts.sum(axis=1).tolist()
        devices: list[tuple[int | str, int | str]] = list(enumerate(samples))
        if isinstance(method, FslGan):
            devices = [(name, "") for name in method.device_names]
        self.tracker.log_file(devices_csv(commit.facts["twin"], devices, folder / "devices.csv"))
        self._log_events(folder, commit)
        history = [(round, metrics) for round, metrics, _ in self.store.history(self.run_id)]
        self.tracker.log_file(run_figure(history, folder / "run.png", self.run_id))
        for name, source in self.session.about_judge().items():
            self.tracker.set_tag(f"extractor.{name}", source)
        dataset = self.federation.dataset
        gan = gan_of(self.config, dataset.train_images.shape[1], len(dataset.classes))
        gan.load_models({"generator": commit.arrays["generator"]})
        self.tracker.log_generator(gan.generator.eval(), gan.latent)
