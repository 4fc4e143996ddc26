"""A run that is open: driven to its end, and its pictures, tables and network left behind."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from rayfed.app.restore import way_on
from rayfed.app.result import Result, resume_command, store_url
from rayfed.cluster.capacity import Capacity
from rayfed.config import RunConfig
from rayfed.data.partition import union
from rayfed.data.setup import Federation
from rayfed.engine.callbacks import Callback, History, StoreCallback, TrackingCallback, Watcher
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.driver import Driver, Stop
from rayfed.engine.session import Session
from rayfed.engine.stopping import EarlyStopping
from rayfed.events import Event, from_json
from rayfed.fleet.protocol import Arrays
from rayfed.fleet.states import StateError, StateFolder
from rayfed.methods.spec import method_of
from rayfed.report.devices import devices_csv
from rayfed.report.events import events_csv
from rayfed.report.forgetting import forgetting_figure, known_of
from rayfed.report.pictures import partition_heatmap, run_figure
from rayfed.report.seen import seen_csv, seen_figure, seen_of
from rayfed.store import LeaseLostError, Status, Store
from rayfed.tasks.base import primary
from rayfed.tracking import NoTracker, Tracker
from rayfed.tracking.models import Judged, registered_name

MLFLOW_STATUS: dict[Status, Literal["FINISHED", "KILLED", "FAILED"]] = {
    "finished": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


class RunWatcher(Watcher, Protocol):
    """Who watches a run: `rayfed.console.display`."""

    def capacity(self, capacity: Capacity, scaling: bool) -> None:
        """What was asked of the cluster, and whether an autoscaler watches it."""

    def callback(self, config: RunConfig) -> Callback:
        """What hears of the rounds of a run."""


@dataclass
class OpenRun:
    """Everything a run holds open."""

    run_id: str
    config: RunConfig
    federation: Federation
    states: StateFolder
    session: Session
    store: Store
    tracker: Tracker | NoTracker
    watcher: RunWatcher
    callbacks: Sequence[Callback] = ()
    """More than the store's, MLflow's and the watcher's."""
    stop: Stop | None = None
    """Whose signals are heard elsewhere. None means the run's own."""

    def drive(self, last: Checkpoint | None, initial: Arrays | None = None) -> Result:
        """Drive to the end, then the run's pictures and its trained network, whatever stopped it.

        The tracker has ended then, and is still to be closed. A run that another process has taken over is left as it
        is, in the store and in MLflow, and LeaseLostError goes on.
        """
        folder = Path(self.config.runs_dir).absolute() / self.run_id
        again = resume_command(self.run_id, self.config)
        status: Status = "failed"
        taken_over = False
        try:
            self.tracker.watch_system()
            folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(1) as beside, self.session.live(self.run_id) as live:
                drawing = beside.submit(self._log_partition, folder)
                driver = self._driver(folder, initial, live)
                checkpoint = self._loop(driver, last)
            drawing.result()
            ended = checkpoint.round >= self.config.rounds or driver.stop_reason
            self._close_files(folder, checkpoint)
            if ended and self.config.tracking.register_model:
                self._register(checkpoint)
            if driver.stop_reason:
                self.store.update_facts(self.run_id, stop_reason=driver.stop_reason)
            status = "finished" if ended else "interrupted"
        except LeaseLostError:
            taken_over = True
            raise
        except KeyboardInterrupt:
            status = "interrupted"
            self._log_tables(folder)
        except Exception as error:
            if kept := [round for round in self.store.states(self.run_id) if round]:
                self._log_tables(folder)
                damaged = error.name if isinstance(error, StateError) else None
                on = way_on(self.store, self.run_id, self.config, self.states, damaged) if damaged else again
                self.watcher.notice(f"run {self.run_id} failed; its rounds up to {kept[-1]} are kept: {on}")
            raise
        finally:
            self.tracker.end(None if taken_over else MLFLOW_STATUS[status])
            if not taken_over:
                self.store.set_status(self.run_id, status)
        return Result(
            run_id=self.run_id,
            status=status,
            config=self.config,
            history=self.store.history(self.run_id),
            folder=folder,
            store=store_url(self.config),
            population=self.federation.population,
            mlflow=self.tracker.look(),
            resume=None if status == "finished" else again,
        )

    def _driver(self, folder: Path, initial: Arrays | None, live: Callback) -> Driver:
        parts, pools = self.federation.parts, self.config.method.pools_data
        stop = self.config.stop
        callbacks = [
            StoreCallback(self.store, self.run_id, self.states),
            TrackingCallback(self.tracker, method_of(self.config).task.metrics),
            self.watcher.callback(self.config),
            live,
            *([EarlyStopping(stop.metric, stop.patience, stop.target)] if stop.asked else []),
            *self.callbacks,
        ]
        history = self._rounds()
        return Driver(
            self.config,
            self.session,
            callbacks,
            self.watcher.notice,
            folder,
            samples=len(union(parts)) if pools else len(parts.indices),
            history=history,
            unjudged=self._unjudged(history),
            initial=initial,
        )

    def _unjudged(self, history: History) -> dict[int, Arrays]:
        """What was being judged when the run was killed, but for the last round, which the driver knows."""
        names = {metric.name for metric in method_of(self.config).task.metrics}
        rounds = [round for round, metrics in history[:-1] if not names & metrics.keys()]
        kept = {round: self.store.outcome(self.run_id, round) for round in self.store.outcomes(self.run_id)}
        return {round: arrays for round, arrays in kept.items() if arrays is not None and round in rounds}

    def _loop(self, driver: Driver, last: Checkpoint | None) -> Checkpoint:
        begun = last.round if last else 0
        self.watcher.waits_for(f"round {begun + 1} of {self.config.rounds}")
        stopping = nullcontext(self.stop) if self.stop else Stop().listening()
        with stopping as driver.stop, self.watcher.live(begun):
            return driver.drive(last)

    def _rounds(self) -> History:
        return [(round, metrics) for round, metrics, _ in self.store.history(self.run_id)]

    def _log_partition(self, folder: Path) -> None:
        counts, classes = self.federation.population.counts, self.federation.dataset.classes
        self.tracker.log_file(partition_heatmap(counts, classes, folder / "partition.png"))

    def _log_tables(self, folder: Path) -> None:
        """What happened, and what was seen of each class, if anything."""
        events: list[tuple[int, Event]] = [(round, from_json(data)) for round, data in self.store.events(self.run_id)]
        if events:
            self.tracker.log_file(events_csv(events, folder / "events.csv"))
        classes = self.federation.dataset.classes
        if known := known_of(self._rounds()):
            self.tracker.log_file(forgetting_figure(known, classes, folder / "forgetting.png"))
        if seen := seen_of(self._rounds()):
            self.tracker.log_file(seen_csv(seen, classes, folder / "seen_class.csv"))
            self.tracker.log_file(seen_figure(seen, classes, folder / "seen_class.png"))

    def _close_files(self, folder: Path, checkpoint: Checkpoint) -> None:
        spec, population = method_of(self.config), self.federation.population
        network = spec.task.export(self.config, population, checkpoint.state.arrays)
        self.tracker.log_model(*network)
        names, samples = spec.topology(self.config).names, population.counts.sum(axis=1).tolist()
        self.tracker.log_file(devices_csv(checkpoint.twin, names, samples, folder / "devices.csv"))
        self._log_tables(folder)
        self.states.keep(self.store.files(self.run_id))  # late calls may have written what nobody names
        self.tracker.log_file(run_figure(self._rounds(), spec.task.metrics, folder / "run.png", self.run_id))
        for name, source in self.session.about_evaluator().items():
            self.tracker.set_tag(name, source)

    def _register(self, checkpoint: Checkpoint) -> None:
        """The trained network as a version of the registered model of its task and data set."""
        task, data = method_of(self.config).task, self.federation.dataset
        network = task.export(self.config, self.federation.population, checkpoint.state.arrays).name
        history = [metrics for round, metrics in self._rounds() if round == checkpoint.round]
        metric = primary(task.metrics, [history])
        judged = None
        if metric and math.isfinite(value := history[0][metric.name]):
            about = self.session.about_evaluator()
            hashes = [about[name].rpartition(" ")[2] for name in sorted(about) if name.startswith("extractor.")]
            side = task.side(self.config.model)
            terms = [metric.name, data.sha256[:8], f"{side}x{side}", f"{self.config.evaluation.samples} samples"]
            judged = Judged(value, metric.lower_is_better, ", ".join([*terms, *hashes]))
        self.tracker.register(network, registered_name(task.name, data.name), judged)
