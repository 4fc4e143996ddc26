"""The Ray actors: thin shells around plain classes, one thread each.

Torch is imported inside them: the scheduler's process does without it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from rayfed.cluster.batch import Slot, run_batch
from rayfed.cluster.capacity import Amounts, amounts
from rayfed.cluster.hosts import PinnedHosts, PooledHosts
from rayfed.config import DeviceHostRole, Role, RunConfig
from rayfed.data.population import EvaluationData, Population
from rayfed.data.shard import Shards
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.methods.spec import method_of
from rayfed.scheduling.scheduler import Scheduler as Registry
from rayfed.startup import without_collections
from rayfed.tasks.base import judged

RESTARTS = 3
"""How often Ray restarts a dead evaluator, or a host that certain devices live on."""


@dataclass(frozen=True)
class Berth:
    """Where a host is."""

    node: str
    """Ray's id of its node."""
    without_gpu: bool
    """Whether it has a share of a GPU that torch cannot use, so that it trains on CPUs."""


def start(actor: Any, role: Role, *args: Any, name: str | None = None) -> Any:
    """Start an actor with its role's resource annotations. One that asks for nothing, and is no host, is near the
    driver: nodes that come and go with their load do not take it along."""
    strategy: Any = "SPREAD" if isinstance(role, DeviceHostRole) and role.placement == "spread" else "DEFAULT"
    if not isinstance(role, DeviceHostRole) and not amounts(role):
        strategy = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return actor.options(**_options(role), name=name, scheduling_strategy=strategy).remote(*args)


def start_reserved(actor: Any, role: Role, group: Any, bundle: int) -> Any:
    """Start an actor on what is reserved for it."""
    strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)
    return actor.options(**_options(role), scheduling_strategy=strategy).remote()


def start_pinned(actor: Any, asked: Amounts, node: str, *args: Any) -> Any:
    """Start a DeviceHost for certain devices, on this node if it has room. What it was asked when it died is lost."""
    options = {"num_cpus": asked.get("CPU", 0), "num_gpus": asked.get("GPU", 0), "memory": asked.get("memory")}
    near = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
    return actor.options(**options, scheduling_strategy=near, max_restarts=RESTARTS).remote(*args)


def _options(role: Role) -> dict[str, Any]:
    return {"num_cpus": role.num_cpus, "num_gpus": role.num_gpus, "memory": role.memory or None}


def _processor() -> str:
    """The processor of this actor, a GPU if it has a share of one; makes its process fit for training."""
    import torch

    from rayfed.models.process import set_up

    set_up()
    return "cuda" if _has_gpu() and torch.cuda.is_available() else "cpu"


def _has_gpu() -> bool:
    return bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))


@dataclass(frozen=True)
class Brief:
    """What an actor must know of a run to work for it."""

    config: RunConfig
    population: Population
    key: str
    """Of the data set; see `EvaluationData`."""
    data: Sequence[Any]
    """References to training images and labels, test images and labels, and the clients' indices."""
    states: str | None = None
    """The state folder, if hosts and driver reach the same one."""


class _Serving:
    """An actor that works for one run after the other. A run's name is that of its scheduler, which has its brief: an
    actor that was restarted asks again."""

    def __init__(self) -> None:
        self._run: str | None = None
        self._work: Any = None

    def ready(self) -> None:
        """Answers once the actor is up."""

    def prepare(self, run: str) -> Any:
        """Be ready to work for a run."""
        if run != self._run:
            self._run = self._work = None  # what the run before held is free again
            brief: Any = ray.get(ray.get_actor(run).about.remote())
            with without_collections():
                self._work = self._made(brief)
            self._run = run

    def _made(self, brief: Brief) -> Any:
        raise AssertionError("an actor's class says what it makes of a brief")


@ray.remote
class DeviceHost(_Serving):
    """Runs device halves; its images are the object store's own memory, shared by all hosts of a node.

    Ray neither restarts it nor repeats its calls: on what is left of a cluster it might wait for ever.
    """

    def prepare(self, run: str) -> Berth:
        """Be ready to work for a run, and say where."""
        super().prepare(run)
        return Berth(ray.get_runtime_context().get_node_id(), _has_gpu() and _processor() == "cpu")

    def _made(self, brief: Brief) -> Any:
        from rayfed.engine.trainer import device_host

        images, labels, parts = ray.get([brief.data[k] for k in (0, 1, 4)])
        shards = Shards(images, labels, parts, brief.population.classes, brief.config.seed)
        narrowed = brief.config.method.narrowed
        states = StateFolder(brief.states, narrowed) if brief.states else None
        return device_host(brief.config, brief.population, shards, _processor(), states)

    def keep(self, run: str, *states: Any) -> Any:
        """Write states, and give the files."""
        self.prepare(run)
        files = [self._work.write(state) for state in states]
        return files if len(files) > 1 else files[0]

    def read(self, run: str, state: StateFile) -> None:
        """See whether this host reads a state. Raises StateError if not."""
        self.prepare(run)
        self._work.read(state)

    def run(self, slots: list[Slot], *values: Any) -> tuple[Any, ...]:
        """See `run_batch`; `values` are what the slots' Picks name. All slots are of one run."""
        from rayfed.models.process import trim

        self.prepare(slots[0].run)
        results = run_batch(self._work, slots, values)
        trim()
        return results


@ray.remote
class Scheduler:
    """The method's scheduler as an actor; it knows where the clients' data is, and never looks at it."""

    def __init__(self, registry: Registry, brief: Brief) -> None:
        self.registry = registry
        self.brief = brief

    def ready(self) -> None:
        """Answers once the scheduler is up."""

    def begin(self, registry: Registry) -> None:
        """Go on with another registry: the round in which a host died is computed again."""
        self.registry = registry

    def about(self) -> Brief:
        """The brief that the scheduler was given."""
        return self.brief

    def call(self, method: str, *args: Any) -> Any:
        """One method of the scheduler."""
        return getattr(self.registry, method)(*args)


class RemoteScheduler:
    """The Scheduler actor, asked as if it were here: each of the registry's methods is a call to the actor."""

    def __init__(self, actor: Any, config: RunConfig) -> None:
        self.config = config
        self._actor = actor

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda *args: ray.get(self._actor.call.remote(method, *args))


@ray.remote
class GeneratorServer:
    """Runs the method's server half and holds the learning state between commits, for one run after the other."""

    def ready(self) -> None:
        """Answers once the server is up."""

    def prepare(self, run: str, hosts: Sequence[Any], host_of: Sequence[int], scheduler: Any) -> None:
        """Be ready to work for a run; `host_of`: the host of each device, where devices have hosts of their own."""
        from rayfed.cluster.fleet import RayFleet

        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of lost calls: RayFleet tells of those
        brief: Brief = ray.get(scheduler.about.remote())
        self._hosts = PinnedHosts(hosts, host_of) if host_of else PooledHosts(hosts)
        fleet = RayFleet(self._hosts, run, files=brief.states is not None)
        registry: Any = RemoteScheduler(scheduler, brief.config)
        with without_collections():
            from rayfed.engine.trainer import Trainer

            self.trainer = Trainer(brief.config, brief.population, fleet, registry, _processor())

    def use(self, hosts: Sequence[Any]) -> None:
        """See `PooledHosts.use`."""
        assert isinstance(self._hosts, PooledHosts)
        self._hosts.use(hosts)

    def start(self, checkpoint: Any, initial: Any) -> Any:
        """See `Trainer.start`."""
        return self.trainer.start(checkpoint, initial)

    def round(self) -> Any:
        """See `Trainer.round`; the checkpoint's device states are files, or references to arrays."""
        return self.trainer.round()


@ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)
class Evaluator(_Serving):
    """Judges states beside the training. What it judges with is loaded, or trained, when first needed."""

    def _made(self, brief: Brief) -> Any:
        train, labels, test, test_labels = ray.get(list(brief.data[:4]))
        data = EvaluationData(train, labels, test, test_labels, brief.population.classes, brief.key)
        return method_of(brief.config).task.evaluator(brief.config, data, _processor())

    def about(self, run: str) -> Any:
        """See `rayfed.tasks.base.Evaluator.about`."""
        self.prepare(run)
        return self._work.about()

    def evaluate(self, run: str, round: int, arrays: Any) -> Any:
        """See `rayfed.tasks.base.judged`."""
        self.prepare(run)
        return judged(self._work, round, arrays)
