"""A comparison's runs, one after the other or side by side where the cluster has room, under one MLflow run."""

import csv
import json
import os
import queue
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rayfed.app import run as running
from rayfed.app.beginning import Begun
from rayfed.app.open_run import MLFLOW_STATUS, RunWatcher
from rayfed.app.preparation import prepared
from rayfed.app.rehearsal import Known, rehearse
from rayfed.app.result import Result, from_here
from rayfed.app.run import Part, open_tracker
from rayfed.cluster import capacity, connection, nodes
from rayfed.cluster.pool import ActorPool
from rayfed.config import Comparison, RunConfig, flatten
from rayfed.config.comparison import about
from rayfed.data.setup import prepare
from rayfed.engine.driver import Stop
from rayfed.errors import UserError, counted
from rayfed.methods.spec import method_of
from rayfed.report.comparison import Histories, Throughput, document, long_rows, summarise
from rayfed.report.comparison_figure import comparison_figure
from rayfed.report.numbers import shown
from rayfed.store import Status
from rayfed.tasks.base import Metric
from rayfed.tracking import NoTracker, Tracker, nested
from rayfed.tracking.origin import Input, input_of

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class Watcher(Protocol):
    """Who watches a comparison: `rayfed.console.display`."""

    def notice(self, text: str) -> None: ...
    def live(self) -> AbstractContextManager[None]: ...
    def run(self, name: str) -> RunWatcher: ...


@dataclass(frozen=True)
class Job:
    """One run with one seed."""

    run: str
    seed: int
    name: str
    """The run's, with the seed if there are several."""
    config: RunConfig


@dataclass
class Runs:
    """The jobs of a comparison and what became of them."""

    jobs: Sequence[Job]
    local: bool
    watcher: Watcher
    ident: str
    """The comparison's."""
    tags: Mapping[str, str]
    """Of every run in MLflow."""
    stop: Stop = field(default_factory=Stop)
    pool: ActorPool = field(default_factory=ActorPool)
    """Of the actors, which go from run to run."""
    results: dict[str, Result] = field(default_factory=dict)
    """By the job's name, of those that came to an end or to Ctrl-C."""
    failed: list[str] = field(default_factory=list)

    def drive(self) -> None:
        """Run them all, or until Ctrl-C: those that train end their round, the others do not begin."""
        auto = any(job.config.resources.hosts == "auto" for job in self.jobs)
        try:
            with self.stop.listening(), self.watcher.live():
                if self.local or auto:  # each takes all there is
                    for job in self.jobs:
                        if not self.stop.requested:
                            self.run(job)
                else:
                    self._side_by_side(nodes.free())
        except KeyboardInterrupt:  # the second, while threads wait in ray.get, which only the process's end ends
            self.watcher.notice("cut off; `rayfed list` shows the runs, `rayfed resume` goes on with them")
            os._exit(INTERRUPTED)

    def _side_by_side(self, free: Mapping[str, float]) -> None:
        """A thread for each run, as many as `free` has room for."""
        waiting = list(self.jobs)
        running: list[Job] = []
        ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        while running or (waiting and not self.stop.requested):
            while waiting and not self.stop.requested and (not running or _fit([*running, waiting[0]], free)):
                running.append(waiting.pop(0))
                threading.Thread(target=lambda job=running[-1]: ended.put(self.run(job)), daemon=True).start()
            running.remove(ended.get())

    def run(self, job: Job) -> Job:
        """One run to its end; if it fails, the others go on."""
        began = time.monotonic()
        part = Part(job.run, self.tags, {"comparison": self.ident, "name": job.run}, self.stop, self.pool)
        try:
            watcher = self.watcher.run(job.name)
            with ExitStack() as last:
                begun = Begun(prepared(job.config, watcher.notice), last)
                result = running.run(job.config, begun, self.local, watcher, part)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            self.failed.append(job.name)
            self.watcher.notice(f"{job.name}: {error if isinstance(error, UserError) else traceback.format_exc()}")
        else:
            self.results[job.name] = result
            self.watcher.notice(_line(job.name, result, time.monotonic() - began))
        return job

    @property
    def status(self) -> Status:
        """Failed if any run has; interrupted if any is not at its end."""
        if self.failed:
            return "failed"
        ends = [self.results[job.name].status if job.name in self.results else "interrupted" for job in self.jobs]
        return "finished" if all(end == "finished" for end in ends) else "interrupted"

    def histories(self) -> Histories:
        """What there is, in the order of the jobs."""
        found: dict[str, dict[int, Any]] = {job.run: {} for job in self.jobs}
        for job in self.jobs:
            if result := self.results.get(job.name):
                found[job.run][job.seed] = [(round, metrics) for round, metrics, _ in result.history]
        return found


def compare(comparison: Comparison, ident: str, local: bool, watcher: Watcher) -> dict[str, Any]:
    """Run a comparison with this id; its JSON document: that of `rayfed.report.comparison`, and where everything is.

    Beside `metric`, `common` and `runs` it has `comparison` (its name), `status`, `throughput` (run -> devices ->
    images per simulated second), `resume` (run -> the command that goes on with it), `without_result`, and where its
    `figure`, its `table` (CSV, see `long_rows`) and the runs in `mlflow` are. Each run has `ids`: seed -> its id.

    Raises UserError, before anything trains, for a combination that cannot run, and for an id that is taken.
    """
    configs = comparison.configs()
    runs_dir = Path(next(iter(next(iter(configs.values())).values())).runs_dir).absolute()
    if (runs_dir / ident).exists():
        raise UserError(f"comparison {ident!r} is already in {runs_dir}; take another id")
    jobs = [
        Job(run, seed, f"{run}, seed {seed}" if len(seeds) > 1 else run, config)
        for run, seeds in configs.items()
        for seed, config in seeds.items()
    ]
    data = _check(jobs, watcher)
    throughput = {run: _throughput(comparison, run) for run in configs}
    base = jobs[0].config
    with nullcontext() if local else connection.connected(base.ray):
        if not local and not nodes.autoscaling():
            for job in jobs:
                with about(f"run {job.name}"):
                    capacity.refuse(capacity.plan_of(job.config, nodes.totals()))
        seeds = ", ".join(map(str, next(iter(configs.values()))))
        tags = {"comparison": ident, "runs": ", ".join(configs), "seeds": seeds}
        tracker = open_tracker(base, ident, flatten(comparison.base), tags)
        tracker.log_input(data)
        tracker.show_charts(ident, method_of(base).task.metrics, (), base.rounds)
        runs = Runs(jobs, local, watcher, ident, nested(tracker) | {"comparison": ident})
        status: Status = "failed"
        try:
            runs.drive()
            found = _conclude(runs, throughput, ident, tracker)
            status = runs.status
        finally:
            if unsent := tracker.close(MLFLOW_STATUS[status]):
                watcher.notice(unsent)
    return found | {"mlflow": tracker.look()}


def _check(jobs: Sequence[Job], watcher: Watcher) -> Input:
    """The runs' data set. Refuses what it or the twin cannot do, and runs whose metrics do not compare."""
    tasks = {method_of(job.config).task_name: job.run for job in jobs}
    if len(tasks) > 1:
        runs = " and ".join(f"{run} ({task})" for task, run in tasks.items())
        raise UserError(f"method.name: runs of different tasks do not compare: {runs}")
    sides = {method_of(job.config).task.side(job.config.model): job.run for job in jobs}
    if len(sides) > 1:
        runs = " and ".join(f"{run} ({side}x{side})" for side, run in sides.items())
        label = method_of(jobs[0].config).task.metrics[0].label
        raise UserError(f"model.name: {label} of images of different sizes does not compare: {runs}")
    for job in jobs:
        with about(f"run {job.name}"):
            data = input_of(prepared(job.config, watcher.run(job.name).notice).dataset)
    return data


def _throughput(comparison: Comparison, run: str) -> dict[int, float]:
    """Images per simulated second by the number of devices, without counts that nobody asked for and that cannot be."""
    rates: dict[int, float] = {}
    known: Known = {}
    for count, config in comparison.at_counts(run).items():
        with about(f"run {run}, throughput by `devices`") if comparison.devices else suppress(UserError):
            rates[count] = rehearse(config, prepare(config, method_of(config).task.side(config.model)), known)
    return rates


def _fit(jobs: Sequence[Job], free: Mapping[str, float]) -> bool:
    """Whether the actors of all jobs have room at once, on the nodes and within what was free at the beginning."""
    totals = nodes.totals()
    asks = [ask for job in jobs for ask in capacity.plan_of(job.config, totals).asks]
    return not capacity.place(asks, totals) and not capacity.place(asks, [free])


def _line(name: str, result: Result, seconds: float) -> str:
    last = result.last()
    judged = f", {last[0]} {shown(last[1])}" if last else ""
    rounds = counted(len(result.metrics), "round")
    return f"{name}: {result.status}, {rounds} in {seconds:.0f} s{judged} ({result.run_id})"


def _conclude(runs: Runs, throughput: Throughput, ident: str, tracker: Tracker | NoTracker) -> dict[str, Any]:
    """The document, and it, the table and the figure as files beside the runs' and in MLflow."""
    histories = runs.histories()
    metrics: Sequence[Metric] = method_of(runs.jobs[0].config).task.metrics
    summary = summarise(histories, metrics)
    folder = Path(runs.jobs[0].config.runs_dir).absolute() / ident
    folder.mkdir(parents=True)
    figure = comparison_figure(histories, summary, throughput, folder / "comparison.png", ident)
    table = _write_csv(long_rows(histories, metrics), folder / "comparison.csv")
    found = {
        "comparison": ident,
        "status": runs.status,
        **document(histories, summary, metrics),
        "throughput": throughput,
    }
    for job in runs.jobs:
        if result := runs.results.get(job.name):
            found["runs"][job.run].setdefault("ids", {})[str(job.seed)] = result.run_id
    found["resume"] = {name: result.resume for name, result in runs.results.items() if result.resume}
    found["without_result"] = [job.name for job in runs.jobs if job.name not in runs.results]
    found |= {"figure": from_here(figure), "table": from_here(table)}
    (folder / "comparison.json").write_text(json.dumps(found))
    for path in (table, folder / "comparison.json"):
        tracker.log_file(path)
    results = runs.results.values()
    pictures = {name for result in results for name in result.drawn}
    rounds = max((len(result.metrics) for result in results), default=0)
    measured = {name for result in results for each in result.metrics for name in each}
    charts = tracker.show_charts(ident, [m for m in metrics if m.name in measured], sorted(pictures), rounds)
    label = summary.metric.label if summary.metric else "metric"
    best = [f"{run} **{shown(each['summary']['best']['mean'])}**" for run, each in found["runs"].items()]
    text = f"Best {label}: {', '.join(best)}\n\n[Charts and samples of the runs]({charts})"
    tracker.describe(text, {"comparison": figure})
    return found


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["run", "seed", "round"])
        writer.writeheader()
        writer.writerows(rows)
    return path
