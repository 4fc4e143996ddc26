"""FedAvg (McMahan et al. 2017, Algorithm 1) of a whole classifier, and the same network on all data in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayfed.aggregation import by_samples
from rayfed.config import RunConfig
from rayfed.config.sections import Fraction
from rayfed.config.training import DistributedTraining
from rayfed.data.population import Population
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays
from rayfed.ids import ClientId
from rayfed.methods import centralized, fedavg
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Update
from rayfed.methods.local_epochs import EpochScheduler, batches, scheduler
from rayfed.methods.spec import MethodSpec
from rayfed.methods.state import State
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed
from rayfed.tasks.classification.settings import ClassifierTraining, PooledTraining

if TYPE_CHECKING:
    from rayfed.tasks.classification.workspace import ClassifierWorkspace


class Settings(ClassifierTraining, DistributedTraining):
    """A fraction of the devices trains the whole network each round."""

    fraction: Fraction = 1.0
    """C, the fraction of the devices that take part in a round: C times `devices.count`, rounded down."""

    @property
    def selection(self) -> str:
        """See `Training.selection`."""
        return "random"

    def participants(self, devices: int) -> int:
        """C*K rounded down."""
        return int(self.fraction * devices + 1e-9)


class Device:
    """Local epochs of the whole network. What a device owns between rounds is Adam's state."""

    def __init__(self, context: DeviceContext[ClassifierWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        """The load's batches, from the server's network."""
        import torch

        workspace, shard, method = self.context.workspace, self.context.shard, self.context.config.method
        workspace.load_models(workspace.codec.decode(models))
        workspace.load_optimizer_state(self.state or None)
        losses = [workspace.train(*batch) for batch in batches(shard, load, round, method.iterations)]
        if method.keeps_optimizer_state:
            self.state = workspace.optimizer_state()
        metrics = {"loss_train": float(torch.stack(losses).mean())}
        return Update(shard.client, workspace.codec.encode(workspace.models()), load, metrics)


class Server(fedavg.Server):
    """FedAvg's round, weighted by the devices' samples."""

    def __init__(self, context: ServerContext[Any, Scheduler]) -> None:
        super().__init__(context)
        self.workspace: ClassifierWorkspace = context.workspace
        self.weigh = by_samples(self.scheduler.class_counts().sum(axis=1))

    def init(self) -> State:
        """A fresh network."""
        self.workspace.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, self.workspace.models(), sampler=self.scheduler.start())


class PooledServer(centralized.Server):
    """The network on the union of all devices' data."""

    def __init__(self, context: ServerContext[Any, Scheduler]) -> None:
        super().__init__(context)
        self.workspace: ClassifierWorkspace = context.workspace

    def init(self) -> State:
        """A fresh network."""
        self.workspace.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, self.workspace.models())

    def load(self) -> Load:
        """An epoch of everything, or so many iterations."""
        [load] = self.context.scheduler.loads([ClientId(0)])
        return load


def pooled(config: RunConfig, population: Population) -> EpochScheduler:
    """The scheduler of one place that holds it all."""
    return EpochScheduler(config, population.union[None])


METHODS = [
    MethodSpec(
        "fedavg",
        "FedAvg of a whole classifier (McMahan et al. 2017)",
        Settings,
        Server,
        Device,
        ("classifier",),
        task_name="classification",
        scheduler=scheduler,
    ),
    MethodSpec(
        "centralized-classifier",
        "a classifier on all data in one place: the reference",
        PooledTraining,
        PooledServer,
        Device,
        ("classifier",),
        task_name="classification",
        validate=centralized.validate,
        scheduler=pooled,
    ),
]
