"""One run's actors: what the driver drives on a cluster."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray

from rayfed.cluster import actors, capacity, nodes
from rayfed.cluster.actors import Brief
from rayfed.cluster.capacity import Amounts, Capacity
from rayfed.cluster.elastic import JOIN_S, LOOK_S, ElasticHosts
from rayfed.cluster.evaluations import evaluated
from rayfed.cluster.metrics import LiveMetrics
from rayfed.cluster.objects import LOST, HostLostError, got, is_lost, reason
from rayfed.cluster.pool import ActorPool, Kind
from rayfed.config import RunConfig
from rayfed.data.setup import Federation
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.session import Evaluated
from rayfed.errors import CapacityError, UserError, counted
from rayfed.fleet.protocol import Arrays
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.methods.spec import method_of
from rayfed.tasks.base import EvaluationFailure

PATIENT_S = 20.0
"""In which actors start where there is room for them."""
ATTEMPTS = 4
"""At one round, before hosts that die in it are more than bad luck."""


class RaySession:
    """A GeneratorServer, a Scheduler, an Evaluator and DeviceHosts, as many as the cluster has room for."""

    def __init__(
        self,
        config: RunConfig,
        federation: Federation,
        report: Callable[[Capacity, bool], None],
        pool: ActorPool | None = None,
        states: StateFolder | None = None,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`report` hears the capacity before anything starts, and whether an autoscaler watches the cluster; `notice`
        hears what becomes of hosts.

        The actors come from the pool; None means that all are new. `states`: where device states lie between rounds;
        hosts that do not reach it hand them to this process, and None keeps them in the object store. Raises
        CapacityError at once for what can never fit, and after `ray.wait_s` for what did not come.
        """
        found = nodes.nodes()
        self.capacity = capacity.plan_of(config, [node.resources for node in found.values()])
        self._node_ids = list(found)
        self._scaling = any(node.kind for node in found.values())
        report(self.capacity, self._scaling)
        if not self._scaling:
            capacity.refuse(self.capacity)
        self._config, self._population = config, federation.population
        self._pool, self._shared = pool or ActorPool(), pool is not None
        self._notice = notice
        self._patient_until: float | None = time.monotonic() + PATIENT_S
        self._pending: list[Any] = []
        self._failed = False
        self._states = states
        self._reached = config.store.states is not None or (not self._scaling and nodes.one_machine())
        if config.method.narrowed and not self._reached:
            raise UserError(
                f"method.optimizer_state = {config.method.optimizer_state}: needs a folder that all hosts "
                "reach; name it with store.states"
            )
        self._pinned: list[Any] = []
        self._last: Checkpoint | None = None
        """Of the last round, with the states of all devices that ever had one."""
        pinned = bool(self.capacity.hosts)
        kind, free = Kind.of(config.resources, bool(config.evaluation.every), not pinned), nodes.free()
        self._group = self._pool.take(kind, 0 if pinned else self.capacity.least)
        try:
            self._start_actors(federation, free)
        except BaseException:
            self.end()
            raise

    def _start_actors(self, federation: Federation, free: Amounts) -> None:
        """`free`: what of the cluster nobody had taken before."""
        config, judged = self._config, federation.evaluation_data
        data = [ray.put(each) for each in (*judged[:4], federation.parts)]
        place = self._states.place if self._states and self._reached else None
        self._brief = Brief(config, self._population, judged.key, data, place)
        self._start_scheduler()
        until = time.monotonic() + config.ray.wait_s
        pinned, there = self.capacity.hosts, len(self._group.hosts)
        self._pinned = [actors.start_pinned(actors.DeviceHost, asked, self._node_ids[node]) for asked, node in pinned]
        if pinned:
            self._await([host.prepare.remote(self._run) for host in self._pinned], until)
        else:
            self._elastic = ElasticHosts(self._group, self._run, self._wanted)
            self._await_hosts(self.capacity.least, until)
            roomy = capacity.hosts(capacity.plan_of(config, [free]))
            soon = min(max(there, roomy), capacity.hosts(self.capacity))
            self._elastic.wait(soon, min(until, time.monotonic() + JOIN_S))
            self._tell_of_gpus()
        if self._group.evaluator:
            self._await([self._group.evaluator.ready.remote()], until)
        self._prepare_server(until)
        self._patient_until = None
        if self._states and config.store.states is not None:
            self._check_folder(self._states)

    def _start_scheduler(self) -> None:
        self._run = f"rayfed-scheduler-{secrets.token_hex(4)}"
        registry = method_of(self._config).scheduler(self._config, self._population)
        role = self._config.resources.scheduler
        self._scheduler = actors.start(actors.Scheduler, role, registry, self._brief, name=self._run)

    def _prepare_server(self, until: float) -> None:
        self._told = self._hosts  # as far as the server knows
        prepared = self._group.server.prepare.remote(self._run, self._told, self.capacity.host_of, self._scheduler)
        self._await([prepared], until)

    @property
    def _hosts(self) -> list[Any]:
        return self._pinned or list(self._elastic.here)

    def _wanted(self, found: Sequence[Amounts]) -> int:
        """How many hosts there is use and room for on such nodes; an autoscaler makes room."""
        return self.capacity.most if self._scaling else capacity.hosts(capacity.plan_of(self._config, found))

    def close(self) -> None:
        """The run is over. Where the pool is shared its actors are free for another."""
        self._end_pinned()
        if self._shared:
            self._pool.give(self._group)
        else:
            self._group.close()

    def end(self) -> None:
        """End the actors, and what waits for room."""
        self._end_pinned()
        self._group.close()

    def _end_pinned(self) -> None:
        for host in self._pinned:
            ray.kill(host)

    def _await(self, ready: list[Any], until: float) -> None:
        """Wait for actors. Raises CapacityError for what does not come, or cannot."""
        missing = ready
        while missing and time.monotonic() < until:
            left = min(until - time.monotonic(), LOOK_S)
            missing = ray.wait(ready, num_returns=len(ready), timeout=max(0, left))[1]
            self._waiting()
        if missing:
            raise self._too_late(f"{len(missing)} of {len(ready)} actors")
        got(ready)

    def _await_hosts(self, least: int, until: float) -> None:
        if not self._elastic.wait(least, until, self._waiting):
            raise self._too_late(f"{least - len(self._elastic.here)} of {counted(least, 'device host')}")

    def _too_late(self, what: str) -> CapacityError:
        return CapacityError(
            f"ray.wait_s = {self._config.ray.wait_s:g}: {what} have not started; the cluster may be busy "
            "or still growing; wait longer or ask for less under `resources`"
        )

    def _waiting(self) -> None:
        """Tell that the start takes long. Raises CapacityError for what no node can hold, as the autoscaler says."""
        if self._patient_until and time.monotonic() > self._patient_until:
            self._patient_until = None
            self._notice(
                "not all actors have started; the cluster may be busy, or still grow: the run begins when they have"
            )
        if self._scaling:
            living = [node.resources for node in nodes.nodes().values()]
            capacity.refuse_infeasible(self.capacity.asks, living, nodes.infeasible())

    def _tell_of_gpus(self) -> None:
        if count := sum(berth.without_gpu for berth in self._elastic.here.values()):
            self._notice(f"torch finds no GPU on {counted(count, 'device host')} with a share of one: training on CPUs")

    def _check_folder(self, states: StateFolder) -> None:
        """Raise UserError unless every host reads what is written here."""
        probe = states.write({"probe": np.arange(3)})
        try:
            got([host.read.remote(self._run, probe) for host in self._hosts])
        except UserError as error:
            raise UserError(
                f"store.states = {self._config.store.states!r}: not every device host reaches it ({error}); name a "
                "folder that all nodes share, or leave it out"
            ) from None
        finally:
            states.remove([probe.name])

    def start(self, checkpoint: Checkpoint | None, initial: Arrays | None = None) -> Checkpoint:
        started = self._started(checkpoint, initial)
        self._last = replace(started, devices=checkpoint.devices if checkpoint else {})
        return started

    def _started(self, checkpoint: Checkpoint | None, initial: Arrays | None = None) -> Checkpoint:
        if checkpoint and self._states and not self._reached:
            read: dict[Any, Any] = {device: ray.put(self._read(state)) for device, state in checkpoint.devices.items()}
            checkpoint = replace(checkpoint, devices=read)
        started: Checkpoint = got(self._group.server.start.remote(checkpoint, initial))
        return started

    def _read(self, state: Any) -> Arrays:
        return self._states.read(state) if self._states and isinstance(state, StateFile) else state

    def round(self) -> Checkpoint:
        """A round; one in which a host dies is computed again, from where the last one ended."""
        lost: Exception | None = None
        for _ in range(ATTEMPTS):
            try:
                if lost:
                    self._recover(lost)
                return self._round()
            except (HostLostError, *LOST) as error:
                lost = error
        assert lost is not None
        assert self._last is not None
        raise CapacityError(
            f"round {self._last.round + 1}: device hosts died in {ATTEMPTS} attempts (at last: {reason(lost)}); give "
            "each more memory or ask for fewer hosts under `resources`, and resume the run"
        )

    def _round(self) -> Checkpoint:
        if not self._pinned:
            self._elastic.look()
            self._await_hosts(1, time.monotonic() + self._config.ray.wait_s)
            if self._hosts != self._told:
                self._told = self._hosts
                self._group.server.use.remote(self._told)
        checkpoint: Checkpoint = got(self._group.server.round.remote())
        kept = {device: self._kept(state) for device, state in checkpoint.devices.items()}
        checkpoint = replace(checkpoint, devices=kept)
        known = self._last.devices if self._last else {}
        self._last = replace(checkpoint, devices=known | kept)
        return checkpoint

    def _recover(self, error: Exception) -> None:
        """Replace what is dead, and stand where the last round ended."""
        assert self._last is not None
        round = self._last.round + 1
        until = time.monotonic() + self._config.ray.wait_s
        if is_lost(self._scheduler.ready.remote()):
            self._start_scheduler()
        if is_lost(self._group.server.ready.remote()):
            self._group.start_server()
        if self._pinned:
            self._await([host.prepare.remote(self._run) for host in self._pinned], until)
        else:
            self._elastic.bury(self._run)
            self._await_hosts(1, until)
        registry = method_of(self._config).scheduler(self._config, self._population)
        self._await([self._scheduler.begin.remote(registry)], until)
        self._prepare_server(until)
        self._started(self._last)
        self._notice(f"round {round} is computed again on {counted(len(self._hosts), 'device host')}: {reason(error)}")

    def _kept(self, state: Any) -> Any:
        """What a host that does not reach the folder has handed on is written here."""
        if not isinstance(state, ray.ObjectRef):
            return state
        arrays: Arrays = ray.get(state)
        return self._states.write(arrays) if self._states and arrays else arrays

    def evaluate(self, round: int, arrays: Arrays) -> None:
        assert self._group.evaluator is not None
        self._pending.append(self._group.evaluator.evaluate.remote(self._run, round, arrays))

    def evaluations(self, wait: bool) -> list[Evaluated]:
        if not self._pending:
            return []
        timeout = None if wait else 0
        ready, self._pending = ray.wait(self._pending, num_returns=len(self._pending), timeout=timeout)
        found = [evaluated(ref) for ref in ready]
        self._failed = self._failed or any(isinstance(each, EvaluationFailure) for each in found)
        return found

    @property
    def waiting(self) -> int:
        return len(self._pending)

    def about_evaluator(self) -> dict[str, str]:
        if self._group.evaluator is None or self._failed:
            return {}
        about: dict[str, str] = ray.get(self._group.evaluator.about.remote(self._run))
        return about

    def facts(self) -> dict[str, Any]:
        return {"fleet": "ray", "hosts": len(self._hosts)}

    def live(self, run_id: str) -> LiveMetrics:
        return LiveMetrics(run_id, lambda: self.facts()["hosts"])
