"""The centralised GAN: all data in one place, the reference for FID and for the cost of the network.

It runs on the SERVER node, where nothing crosses a link; a round is E iterations on batches of B.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from rayfed.config import RunConfig, Training
from rayfed.config.training import Keeping
from rayfed.fleet.protocol import Fleet
from rayfed.ids import DeviceId
from rayfed.methods import fedavg
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Report, accepts, collect
from rayfed.methods.spec import BOTH, MethodSpec
from rayfed.methods.state import State
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, torch_seed

if TYPE_CHECKING:
    from rayfed.tasks.gan.workspace import GanWorkspace


class Settings(Training):
    """All data in one place: the reference."""

    pools_data: ClassVar[bool] = True
    moments: Keeping = "keep"
    """Whether Adam's moments, the optimizer state, are kept from round to round (`keep`) or start at zero (`fresh`)."""

    @property
    def keeps_optimizer_state(self) -> bool:
        """See `Training.keeps_optimizer_state`."""
        return self.moments == "keep"

    def participants(self, devices: int) -> int:
        """The one place."""
        return 1


def validate(config: RunConfig) -> None:
    """There is no wire to encode for."""
    if config.wire != "float32":
        raise ValueError(f"wire = '{config.wire}': {config.method.name} sends nothing over a wire; use float32")


class Server:
    """One GAN on the union of all devices' data."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        self.context = context

    def init(self) -> State:
        """Fresh networks."""
        gan = self.context.workspace.gan
        gan.initialise(torch_seed(self.context.seed, 0, SERVER, "weights"))
        return State(0, gan.models())

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """The load, once."""
        method, codec = self.context.config.method, self.context.workspace.codec
        round, load = state.round + 1, self.load()
        future = fleet.submit(
            DeviceId(SERVER), "train", fleet.share(codec.encode(state.models)), load, round, last=True
        )
        updates = [update for update in collect(fleet, method, [future]) if accepts(fleet, update, codec)]
        models = codec.decode(updates[0].models) if updates else state.models
        return replace(state, round=round, models=models), [update.report for update in updates]

    def load(self) -> Load:
        """E iterations on batches of B."""
        method = self.context.config.method
        return Load(method.batch, method.iterations)


METHOD = MethodSpec(
    name="centralized",
    about="all data in one place: the reference",
    settings=Settings,
    server=Server,
    device=fedavg.Device,
    trains=BOTH,
    validate=validate,
)
