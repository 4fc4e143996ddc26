"""A method as somebody might write it, all in one file: FedAvg with server momentum of the generator alone.

Each device keeps a discriminator of its own, which never crosses the wire. The server adds up the participants' mean
steps of the generator with momentum (Hsu, Qi, Brown: "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", 2019): v = beta v + (w - mean), w = w - v. BatchNorm's statistics are the plain mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from rayfed.aggregation import uniform
from rayfed.config import FederatedTraining, RunConfig
from rayfed.events import Event
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.exchange import Report, Update, choose_group, train_group
from rayfed.methods.spec import BOTH, MethodSpec
from rayfed.methods.state import State
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed

if TYPE_CHECKING:
    from rayfed.tasks.gan.workspace import GanWorkspace

G, D = "generator", "discriminator"
VELOCITY = "generator.velocity"


class Settings(FederatedTraining):
    """The method's section."""

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """The server's momentum; 0 is FedAvg."""


@dataclass(frozen=True)
class MomentumState(State):
    """The velocity is in `optimizer`; how far the generator has moved in each round is the method's own."""

    moved: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Moved(Event):
    """How far the generator has moved in a round."""

    kind: ClassVar[str] = "toy-moved"
    distance: float

    def sentence(self) -> str:
        return f"the generator moved by {self.distance:.3g}"


class Device:
    """Local training; what a device owns between rounds is its discriminator and that one's optimizer state."""

    def __init__(self, context: DeviceContext[GanWorkspace], state: Arrays) -> None:
        self.context = context
        self.state = state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        """E local iterations, from the server's generator and the device's discriminator."""
        context, shard = self.context, self.context.shard
        gan, codec = context.workspace.gan, context.workspace.codecs[G]
        if self.state:
            gan.load_models({D: self.state[D]})
        else:
            gan.initialise(torch_seed(context.seed, 0, context.device, "weights"))
        gan.load_models(codec.decode(models))
        gan.load_optimizer_state(None, [G])
        gan.load_optimizer_state(self.state or None, [D])
        seed = torch_seed(context.seed, round, context.device, "train")
        loss_g, loss_d = gan.train(shard.batches(load.batch, load.iterations, round), seed)
        self.state = gan.models([D]) | gan.optimizer_state([D])
        return Update(shard.client, codec.encode(gan.models([G])), load, {"loss_g": loss_g, "loss_d": loss_d})


class Server:
    """Participants, their mean generator, a step with momentum."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        assert isinstance(context.config.method, Settings)
        self.context = context
        self.method = context.config.method
        self.codec = context.workspace.codecs[G]
        network = context.workspace.gan.generator
        trained = {name for name, _ in network.named_parameters()}
        each = [np.full(tensor.numel(), name in trained) for name, tensor in network.state_dict().items()]
        self.trained = np.concatenate(each)

    def init(self) -> MomentumState:
        """A fresh generator at rest."""
        gan = self.context.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        models = gan.models([G])
        return MomentumState(0, models, {VELOCITY: np.zeros_like(models[G])}, self.context.scheduler.start())

    def round(self, state: MomentumState, fleet: Fleet) -> tuple[MomentumState, list[Report]]:
        """One round. Without any update the generator stays as it is."""
        round = state.round + 1
        loads, sampler = choose_group(self.context.scheduler, round, state.sampler)
        meter = self.context.workspace.meter
        averaged, reports = train_group(fleet, self.method, meter, self.codec, state, loads, uniform)
        state = replace(state, round=round, sampler=sampler)
        if not averaged:
            return state, []
        before, mean = state.models[G], averaged[G]
        velocity = np.float32(self.method.beta) * state.optimizer[VELOCITY] + (before - mean)
        after = np.where(self.trained, before - velocity, mean)
        moved = float(np.linalg.norm(after - before))
        state = replace(
            state,
            models={G: after},
            optimizer={VELOCITY: velocity},
            moved=[*state.moved, moved],
            events=(Moved(moved),),
        )
        return state, reports


def validate(config: RunConfig) -> None:
    """Steps are differences of models, which int8 rounds too much."""
    if config.wire == "int8":
        raise ValueError("wire = 'int8': toy adds up small steps; use float32 or float16")


METHOD = MethodSpec(
    name="toy",
    about="server momentum of G; each device keeps its D",
    settings=Settings,
    server=Server,
    device=Device,
    trains=BOTH,
    state=MomentumState,
    validate=validate,
)
