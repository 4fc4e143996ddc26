"""The Ray actors: thin shells around plain classes, one thread each.

Torch is imported inside them: the scheduler's process does without it.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayfed.cluster.batch import Slot, run_batch
from rayfed.cluster.capacity import Amounts
from rayfed.config import Role, RunConfig
from rayfed.data.population import EvaluationData, Population
from rayfed.data.shard import Shards
from rayfed.methods.spec import method_of
from rayfed.scheduling.scheduler import Scheduler as Registry
from rayfed.tasks.base import judged

RESTARTS = 3
"""How often Ray restarts a dead device host or evaluator and runs its calls again, before they count as lost."""


def start(actor: Any, role: Role, *args: Any, name: str | None = None) -> Any:
    """Start an actor with its role's resource annotations."""
    options = {"num_cpus": role.num_cpus, "num_gpus": role.num_gpus, "memory": role.memory or None, "name": name}
    return actor.options(**options).remote(*args)


def start_pinned(actor: Any, asked: Amounts, node: str, *args: Any) -> Any:
    """Start a DeviceHost for certain devices, on this node if it has room. What it was asked when it died is lost."""
    options = {"num_cpus": asked.get("CPU", 0), "num_gpus": asked.get("GPU", 0), "memory": asked.get("memory")}
    near = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
    return actor.options(**options, scheduling_strategy=near, max_task_retries=0).remote(*args)


def _processor() -> str:
    """The processor of this actor, a GPU if it has a share of one; sets torch to one thread."""
    import torch

    torch.set_num_threads(1)
    has_gpu = ray.get_runtime_context().get_accelerator_ids().get("GPU")
    return "cuda" if has_gpu and torch.cuda.is_available() else "cpu"


@ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)
class DeviceHost:
    """Runs device halves; its images are the object store's own memory, shared by all hosts of a node."""

    def __init__(self, config: RunConfig, population: Population, scheduler: str) -> None:
        """The scheduler, by its actor's name, says where the data is; a restarted host asks again."""
        from rayfed.engine.trainer import device_host

        images, labels, parts = ray.get([_references(scheduler)[k] for k in (0, 1, 4)])
        shards = Shards(images, labels, parts, population.classes, config.seed)
        self.host: Any = device_host(config, population, shards, _processor())

    def ready(self) -> None:
        """Answers once the host is up."""

    def run(self, slots: list[Slot], *values: Any) -> tuple[Any, ...]:
        """See `run_batch`; `values` are what the slots' Picks name."""
        return run_batch(self.host, slots, values)


@ray.remote
class Scheduler:
    """The method's scheduler as an actor; it knows where the clients' data is, and never looks at it."""

    def __init__(self, registry: Registry, data: list[Any]) -> None:
        """`data`: references to training images and labels, test images and labels, and the clients' indices."""
        self.registry = registry
        self.references = data

    def ready(self) -> None:
        """Answers once the scheduler is up."""

    def data(self) -> list[Any]:
        """The references that the scheduler was given."""
        return self.references

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
    """Runs the method's server half and holds the learning state between commits."""

    def __init__(
        self, config: RunConfig, population: Population, hosts: Sequence[Any], host_of: Sequence[int], scheduler: Any
    ) -> None:
        """`host_of`: the host of each device, where devices have hosts of their own."""
        from rayfed.cluster.fleet import RayFleet
        from rayfed.cluster.hosts import PinnedHosts, PooledHosts
        from rayfed.engine.trainer import Trainer

        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of lost calls: RayFleet tells of those
        fleet = RayFleet(PinnedHosts(hosts, host_of) if host_of else PooledHosts(hosts))
        registry: Any = RemoteScheduler(scheduler, config)
        self.trainer = Trainer(config, population, fleet, registry, _processor())

    def ready(self) -> None:
        """Answers once the server is up."""

    def start(self, checkpoint: Any) -> Any:
        """See `Trainer.start`."""
        return self.trainer.start(checkpoint)

    def round(self) -> Any:
        """See `Trainer.round`; the checkpoint's device states are references."""
        return self.trainer.round()


@ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)
class Evaluator:
    """Judges states beside the training."""

    def __init__(self, config: RunConfig, classes: int, scheduler: str, dataset_key: str) -> None:
        """The scheduler, by its actor's name, says where the images are."""
        self.arguments = config, classes, scheduler, dataset_key
        self._evaluator: Any = None

    def ready(self) -> None:
        """Answers once the actor is up; what it judges with is loaded, or trained, when first needed."""

    @property
    def evaluator(self) -> Any:
        """Made when first needed; not a cached_property, whose lock cannot travel with an actor's class."""
        if self._evaluator is None:
            config, classes, scheduler, dataset_key = self.arguments
            train, labels, test, test_labels = ray.get(_references(scheduler)[:4])
            data = EvaluationData(train, labels, test, test_labels, classes, dataset_key)
            self._evaluator = method_of(config).task.evaluator(config, data, _processor())
        return self._evaluator

    def about(self) -> Any:
        """See `rayfed.tasks.base.Evaluator.about`."""
        return self.evaluator.about()

    def evaluate(self, round: int, arrays: Any) -> Any:
        """See `rayfed.tasks.base.judged`."""
        return judged(self.evaluator, round, arrays)


def _references(scheduler: str) -> list[Any]:
    """Where the data is, as the scheduler of this name says."""
    references: list[Any] = ray.get(ray.get_actor(scheduler).data.remote())
    return references
