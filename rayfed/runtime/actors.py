"""The Ray actors: thin shells around plain classes, one thread each.

Torch is imported inside them: the scheduler's process does without it.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayfed.config import Role, RunConfig
from rayfed.models.block import Block
from rayfed.runtime.batch import Slot, run_batch
from rayfed.runtime.capacity import Amounts
from rayfed.scheduling.clients import Placement
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import SamplerState
from rayfed.scheduling.scheduler import Scheduler as Registry

Totals = tuple[np.ndarray, np.ndarray]
"""See `rayfed.runtime.session.class_totals`."""
RESTARTS = 3
"""How often Ray restarts a dead device host or evaluator and runs its calls again, before they count as lost."""


def start(actor: Any, role: Role, *args: Any, name: str | None = None) -> Any:
    """Start an actor with its role's resource annotations."""
    options = {"num_cpus": role.num_cpus, "num_gpus": role.num_gpus, "memory": role.memory or None, "name": name}
    return actor.options(**options).remote(*args)


def start_home(actor: Any, asked: Amounts, node: str, *args: Any) -> Any:
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

    def __init__(self, config: RunConfig, classes: int, scheduler: str) -> None:
        """The scheduler, by its actor's name, says where the data is; a restarted host asks again."""
        from rayfed.algorithms import device_host

        references: list[Any] = ray.get(ray.get_actor(scheduler).data.remote())
        images, parts, labels = ray.get(references[:3])
        self.host: Any = device_host(config, classes, images, labels, parts, _processor())

    def ready(self) -> None:
        """Answers once the host is up."""

    def run(self, slots: list[Slot], *values: Any) -> tuple[Any, ...]:
        """See `run_batch`; `values` are what the slots' Picks name."""
        return run_batch(self.host, slots, values)


@ray.remote
class Scheduler:
    """The registry of devices as an actor; it knows where their data is, and never looks at it."""

    def __init__(self, config: RunConfig, counts: np.ndarray, blocks: Sequence[Block], data: list[Any]) -> None:
        """`data`: references to training images [N, C, H, W], devices' indices, training labels and test images."""
        self.registry = Registry(config, counts, blocks)
        self.references = data

    def ready(self) -> None:
        """Answers once the scheduler is up."""

    def data(self) -> list[Any]:
        """The references that the scheduler was given."""
        return self.references

    def call(self, method: str, *args: Any) -> Any:
        """One method of `rayfed.scheduling.scheduler.Scheduler`."""
        return getattr(self.registry, method)(*args)


class RemoteScheduler:
    """The Scheduler actor, asked as if it were here."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def class_counts(self) -> np.ndarray:
        return ray.get(self.actor.call.remote("class_counts"))

    def start(self) -> SamplerState:
        return ray.get(self.actor.call.remote("start"))

    def select(self, round: int, state: SamplerState) -> tuple[list[int], SamplerState]:
        return ray.get(self.actor.call.remote("select", round, state))

    def placements(self, round: int, gone: list[int]) -> list[Placement]:
        return ray.get(self.actor.call.remote("placements", round, gone))

    def misfits(self, gone: list[int]) -> dict[str, str]:
        return ray.get(self.actor.call.remote("misfits", gone))

    def assume(self, slowness: dict[int, float]) -> None:
        ray.get(self.actor.call.remote("assume", slowness))

    def loads(self, group: list[int]) -> list[Load]:
        return ray.get(self.actor.call.remote("loads", group))


@ray.remote
class GeneratorServer:
    """Runs the method's server half and holds the learning state between commits."""

    def __init__(
        self,
        config: RunConfig,
        channels: int,
        hosts: Sequence[Any],
        homes: Sequence[int],
        scheduler: Any,
        totals: tuple[np.ndarray, np.ndarray],
    ):
        """`homes`: the host of each device, where devices have hosts of their own."""
        from rayfed.runtime.hosts import Anywhere, Homes
        from rayfed.runtime.ray_fleet import RayFleet
        from rayfed.runtime.trainer import Trainer

        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of lost calls: RayFleet tells of those
        processor = _processor()
        fleet = RayFleet(Homes(hosts, homes) if homes else Anywhere(hosts))
        registry = RemoteScheduler(scheduler)
        self.trainer = Trainer(config, channels, fleet, registry, *totals, processor)

    def ready(self) -> None:
        """Answers once the server is up."""

    def start(self, commit: Any) -> Any:
        """See `Trainer.start`."""
        return self.trainer.start(commit)

    def round(self) -> Any:
        """See `Trainer.round`; the commit's device states are references."""
        return self.trainer.round()


@ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)
class Evaluator:
    """Judges generators beside the training."""

    def __init__(self, config: RunConfig, classes: int, scheduler: str, dataset_key: str) -> None:
        """The scheduler, by its actor's name, says where the images are."""
        self.arguments = config, classes, scheduler, dataset_key
        self._judge: Any = None

    def ready(self) -> None:
        """Answers once the evaluator is up; its extractors are loaded, or trained, when first needed."""

    @property
    def judge(self) -> Any:
        """Made when first needed; not a cached_property, whose lock cannot travel with an actor's class."""
        if self._judge is None:
            from rayfed.runtime.judge import Judge

            config, classes, scheduler, dataset_key = self.arguments
            references: list[Any] = ray.get(ray.get_actor(scheduler).data.remote())
            images, _, labels, test_images = ray.get(references)
            processor = _processor()
            self._judge = Judge(config, classes, images, labels, test_images, dataset_key, processor)
        return self._judge

    def about(self) -> Any:
        """See `Judge.about`."""
        return self.judge.about()

    def evaluate(self, round: int, generator: np.ndarray) -> Any:
        """See `Judge.evaluate`."""
        return self.judge.evaluate(round, generator)
