"""One run's actors: what the driver drives on a cluster."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from rayfed.cluster import actors, capacity, connection
from rayfed.cluster.actors import Brief
from rayfed.cluster.capacity import Capacity
from rayfed.cluster.metrics import LiveMetrics
from rayfed.cluster.pool import ActorPool, Kind
from rayfed.config import RunConfig
from rayfed.data.setup import Federation
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.session import Evaluated
from rayfed.errors import CapacityError, UserError
from rayfed.fleet.protocol import Arrays
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.methods.spec import method_of
from rayfed.tasks.base import EvaluationFailure, EvaluationResult


class RaySession:
    """A GeneratorServer, a Scheduler, an Evaluator and as many DeviceHosts as the cluster allows."""

    def __init__(
        self,
        config: RunConfig,
        federation: Federation,
        report: Callable[[Capacity, bool], None],
        pool: ActorPool | None = None,
        states: StateFolder | None = None,
    ) -> None:
        """`report` hears the capacity before anything starts, and whether an autoscaler watches the cluster.

        The actors come from the pool; None means that all are new. `states`: where device states lie between rounds;
        hosts that do not reach it hand them to this process, and None keeps them in the object store. Raises
        CapacityError at once for what can never fit, and after `ray.wait_s` for what did not come.
        """
        nodes = connection.nodes()
        self.capacity = capacity.plan_of(config, list(nodes.values()))
        self._nodes = list(nodes)
        scaling = connection.autoscaling()
        report(self.capacity, scaling)
        if not scaling:
            capacity.refuse(self.capacity)
        self._config = config
        self._pool = pool or ActorPool()
        self._taken: list[tuple[Kind, Any]] = []
        self._pending: list[Any] = []
        self._failed = False
        self._states = states
        self._reached = config.store.states is not None or (not scaling and connection.one_machine())
        if config.method.narrowed and not self._reached:
            raise UserError(
                f"method.optimizer_state = {config.method.optimizer_state}: needs a folder that all hosts "
                "reach; name it with store.states"
            )
        self._start_actors(federation)

    def _start_actors(self, federation: Federation) -> None:
        config, resources, population = self._config, self._config.resources, federation.population
        judged = federation.evaluation_data
        data = [ray.put(each) for each in (*judged[:4], federation.parts)]
        self._run = f"rayfed-scheduler-{secrets.token_hex(4)}"
        place = self._states.place if self._states and self._reached else None
        registry = method_of(config).scheduler(config, population)
        brief = Brief(config, population, judged.key, data, place)
        server, evaluator = (actors.GeneratorServer, resources.server), (actors.Evaluator, resources.evaluator)
        self._pool.keep({server, evaluator, (actors.DeviceHost, resources.device_host)})
        scheduler = actors.start(actors.Scheduler, resources.scheduler, registry, brief, name=self._run)
        self._hosts = self._start_hosts()
        self._server = self._take(server)
        self._evaluator = self._take(evaluator) if config.evaluation.every else None
        ready = [scheduler.ready.remote(), *(host.prepare.remote(self._run) for host in self._hosts)]
        if self._evaluator:
            ready.append(self._evaluator.ready.remote())
        ready.append(self._server.prepare.remote(self._run, self._hosts, self.capacity.host_of, scheduler))
        self._await(ready)
        if self._states and config.store.states is not None:
            self._check_folder(self._states)

    def _take(self, kind: Kind) -> Any:
        actor = self._pool.take(kind)
        self._taken.append((kind, actor))
        return actor

    def _start_hosts(self) -> list[Any]:
        host, role = actors.DeviceHost, self._config.resources.device_host
        if not self.capacity.host_of:
            return [self._take((host, role)) for _ in range(capacity.hosts(self.capacity))]
        return [actors.start_pinned(host, asked, self._nodes[node]) for asked, node in self.capacity.hosts]

    def close(self) -> None:
        """The run is over, and its actors are free for another."""
        for kind, actor in self._taken:
            self._pool.give(kind, actor)
        self._taken = []

    def _await(self, ready: list[Any]) -> None:
        _, missing = ray.wait(ready, num_returns=len(ready), timeout=self._config.ray.wait_s)
        if missing:
            raise CapacityError(
                f"ray.wait_s = {self._config.ray.wait_s:g}: {len(missing)} of {len(ready)} actors have not started; "
                "the cluster is busy or still growing; wait longer or ask for less under `resources`"
            )
        _got(ready)

    def _check_folder(self, states: StateFolder) -> None:
        """Raise UserError unless every host reads what is written here."""
        probe = states.write({"probe": np.arange(3)})
        try:
            _got([host.read.remote(self._run, probe) for host in self._hosts])
        except UserError as error:
            raise UserError(
                f"store.states = {self._config.store.states!r}: not every device host reaches it ({error}); name a "
                "folder that all nodes share, or leave it out"
            ) from None
        finally:
            states.remove([probe.name])

    def start(self, checkpoint: Checkpoint | None, initial: Arrays | None = None) -> Checkpoint:
        if checkpoint and self._states and not self._reached:
            read: dict[Any, Any] = {device: ray.put(self._read(state)) for device, state in checkpoint.devices.items()}
            checkpoint = replace(checkpoint, devices=read)
        started: Checkpoint = ray.get(self._server.start.remote(checkpoint, initial))
        return started

    def _read(self, state: Any) -> Arrays:
        return self._states.read(state) if self._states and isinstance(state, StateFile) else state

    def round(self) -> Checkpoint:
        checkpoint: Checkpoint = _got(self._server.round.remote())
        return replace(checkpoint, devices={device: self._kept(state) for device, state in checkpoint.devices.items()})

    def _kept(self, state: Any) -> Any:
        """What a host that does not reach the folder has handed on is written here."""
        if not isinstance(state, ray.ObjectRef):
            return state
        arrays: Arrays = ray.get(state)
        return self._states.write(arrays) if self._states and arrays else arrays

    def evaluate(self, round: int, arrays: Arrays) -> None:
        assert self._evaluator is not None
        self._pending.append(self._evaluator.evaluate.remote(self._run, round, arrays))

    def evaluations(self, wait: bool) -> list[Evaluated]:
        if not self._pending:
            return []
        timeout = None if wait else 0
        ready, self._pending = ray.wait(self._pending, num_returns=len(self._pending), timeout=timeout)
        found = [_evaluated(ref) for ref in ready]
        self._failed = self._failed or any(isinstance(each, EvaluationFailure) for each in found)
        return found

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def about_evaluator(self) -> dict[str, str]:
        if self._evaluator is None or self._failed:
            return {}
        about: dict[str, str] = ray.get(self._evaluator.about.remote(self._run))
        return about

    def facts(self) -> dict[str, Any]:
        return {"fleet": "ray", "hosts": len(self._hosts)}

    def live(self, run_id: str) -> LiveMetrics:
        return LiveMetrics(run_id, lambda: self.facts()["hosts"])


def _got(references: Any) -> Any:
    """What references stand for. Raises an actor's UserError as itself."""
    try:
        return ray.get(references)
    except RayTaskError as error:
        if cause := _user_error(error):
            raise cause from None
        raise


def _user_error(error: BaseException | None) -> UserError | None:
    """The user's error that lies under those of Ray: an error of a host comes to the server, and from there here."""
    while isinstance(error, RayTaskError):
        error = error.cause
    return error if isinstance(error, UserError) else None


def _evaluated(ref: Any) -> Evaluated:
    """What an evaluation gave; one that failed must not end the training beside it."""
    try:
        result: EvaluationResult = ray.get(ref)
        return result
    except RayError as error:
        return EvaluationFailure(str(getattr(error, "cause", None) or error).strip().splitlines()[-1])
