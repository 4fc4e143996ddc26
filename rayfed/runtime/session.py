"""One run's actors, or their stand-ins in this process: what the driver drives."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from rayfed.algorithms import device_host
from rayfed.config import FslGan, RunConfig
from rayfed.data.partition import union
from rayfed.data.setup import Federation
from rayfed.errors import CapacityError, UserError
from rayfed.fleet.local import LocalFleet
from rayfed.models.block import Block
from rayfed.models.portions import described
from rayfed.runtime import actors, capacity, cluster
from rayfed.runtime.capacity import Capacity
from rayfed.runtime.judge import Failure, Verdict, judge_of
from rayfed.runtime.trainer import Trainer
from rayfed.scheduling.scheduler import Scheduler
from rayfed.store import Commit


class Session(Protocol):
    """Rounds one after the other, and verdicts whenever they are ready."""

    def start(self, commit: Commit | None) -> Commit: ...
    def round(self) -> Commit: ...
    def judge(self, round: int, generator: np.ndarray) -> None: ...
    def verdicts(self, wait: bool) -> list[Verdict | Failure]: ...
    @property
    def waiting(self) -> int: ...
    def about_judge(self) -> dict[str, Any]: ...
    def facts(self) -> dict[str, Any]: ...


def class_totals(federation: Federation) -> tuple[np.ndarray, np.ndarray]:
    """Class counts [C] of the distinct samples that devices hold, and of the whole training set."""
    labels, classes = federation.dataset.train_labels, federation.counts.shape[1]
    return np.bincount(labels[union(federation.parts)], minlength=classes), np.bincount(labels, minlength=classes)


def blocks_of(config: RunConfig, federation: Federation) -> Sequence[Block]:
    """What the discriminator's blocks need, for a method that splits it."""
    channels = federation.dataset.train_images.shape[1]
    return described(config.model, channels) if isinstance(config.method, FslGan) else ()


class LocalSession:
    """Everything in this process, on one thread: `rayfed run --local`, for a debugger."""

    def __init__(self, config: RunConfig, federation: Federation) -> None:
        torch.set_num_threads(1)
        images, labels = federation.dataset.train_images, federation.dataset.train_labels
        fleet = LocalFleet(device_host(config, len(federation.dataset.classes), images, labels, federation.parts))
        scheduler = Scheduler(config, federation.counts, blocks_of(config, federation))
        self._trainer = Trainer(config, images.shape[1], fleet, scheduler, *class_totals(federation))
        self._judge = judge_of(config, federation.dataset) if config.evaluation.every else None
        self._verdicts: list[Verdict | Failure] = []

    def start(self, commit: Commit | None) -> Commit:
        return self._trainer.start(commit)

    def round(self) -> Commit:
        return self._trainer.round()

    def judge(self, round: int, generator: np.ndarray) -> None:
        assert self._judge is not None
        self._verdicts.append(self._judge.evaluate(round, generator))

    def verdicts(self, wait: bool) -> list[Verdict | Failure]:
        ready, self._verdicts = self._verdicts, []
        return ready

    @property
    def waiting(self) -> int:
        return len(self._verdicts)

    def about_judge(self) -> dict[str, Any]:
        return self._judge.about() if self._judge else {}

    def facts(self) -> dict[str, Any]:
        return {"fleet": "local", "hosts": 1}


class RaySession:
    """A GeneratorServer, a Scheduler, an Evaluator and as many DeviceHosts as the cluster allows."""

    def __init__(self, config: RunConfig, federation: Federation, report: Callable[[Capacity, bool], None]) -> None:
        """`report` hears the capacity before anything starts, and whether an autoscaler watches the cluster.

        Raises CapacityError at once for what can never fit, and after `ray.wait_s` for what did not come.
        """
        nodes = cluster.nodes()
        self.capacity = capacity.plan_of(config, list(nodes.values()))
        self._nodes = list(nodes)
        scaling = cluster.autoscaling()
        report(self.capacity, scaling)
        if not scaling:
            capacity.refuse(self.capacity)
        self._config = config
        self._pending: list[Any] = []
        self._failed = False
        self._start_actors(federation)

    def _start_actors(self, federation: Federation) -> None:
        config, resources = self._config, self._config.resources
        dataset, classes = federation.dataset, len(federation.dataset.classes)
        held = (dataset.train_images, federation.parts, dataset.train_labels, dataset.test_images)
        data = [ray.put(each) for each in held]
        blocks = blocks_of(config, federation)
        name = f"rayfed-scheduler-{secrets.token_hex(4)}"
        registry = config, federation.counts, blocks, data
        scheduler = actors.start(actors.Scheduler, resources.scheduler, *registry, name=name)
        self._hosts = self._start_hosts(config, classes, name)
        channels, totals = dataset.train_images.shape[1], class_totals(federation)
        living = config, channels, self._hosts, self.capacity.homes, scheduler, totals
        self._server = actors.start(actors.GeneratorServer, resources.server, *living)
        self._evaluator = None
        if config.evaluation.every:
            self._evaluator = actors.start(actors.Evaluator, resources.evaluator, config, classes, name, dataset.key)
        started = [*self._hosts, scheduler, self._server, *([self._evaluator] if self._evaluator else [])]
        self._await([actor.ready.remote() for actor in started])

    def _start_hosts(self, *args: Any) -> list[Any]:
        host, role = actors.DeviceHost, self._config.resources.device_host
        if not self.capacity.homes:
            return [actors.start(host, role, *args) for _ in range(capacity.hosts(self.capacity))]
        return [actors.start_home(host, asked, self._nodes[node], *args) for asked, node in self.capacity.hosts]

    def _await(self, ready: list[Any]) -> None:
        _, missing = ray.wait(ready, num_returns=len(ready), timeout=self._config.ray.wait_s)
        if missing:
            raise CapacityError(
                f"ray.wait_s = {self._config.ray.wait_s:g}: {len(missing)} of {len(ready)} actors have not started; "
                "the cluster is busy or still growing; wait longer or ask for less under `resources`"
            )
        ray.get(ready)

    def start(self, commit: Commit | None) -> Commit:
        return ray.get(self._server.start.remote(commit))

    def round(self) -> Commit:
        try:
            commit: Commit = ray.get(self._server.round.remote())
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        references: list[Any] = list(commit.devices.values())
        return replace(commit, devices=dict(zip(commit.devices, ray.get(references), strict=True)))

    def judge(self, round: int, generator: np.ndarray) -> None:
        assert self._evaluator is not None
        self._pending.append(self._evaluator.evaluate.remote(round, generator))

    def verdicts(self, wait: bool) -> list[Verdict | Failure]:
        if not self._pending:
            return []
        timeout = None if wait else 0
        ready, self._pending = ray.wait(self._pending, num_returns=len(self._pending), timeout=timeout)
        found = [_verdict(ref) for ref in ready]
        self._failed = self._failed or any(isinstance(each, Failure) for each in found)
        return found

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def about_judge(self) -> dict[str, Any]:
        if self._evaluator is None or self._failed:
            return {}
        about: dict[str, Any] = ray.get(self._evaluator.about.remote())
        return about

    def facts(self) -> dict[str, Any]:
        return {"fleet": "ray", "hosts": len(self._hosts)}


def _verdict(ref: Any) -> Verdict | Failure:
    """What an evaluation gave; one that failed must not end the training beside it."""
    try:
        verdict: Verdict = ray.get(ref)
        return verdict
    except RayError as error:
        return Failure(str(getattr(error, "cause", None) or error).strip().splitlines()[-1])
