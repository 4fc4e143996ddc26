"""The centralised GAN: all data in one place, the reference for FID and for the cost of the network.

It runs on the SERVER node, where nothing crosses a link; a round is E iterations on batches of B.
"""

from rayfed.algorithms.common import Report, Scheduler, State, train_group
from rayfed.algorithms.site import Site
from rayfed.fleet.protocol import Fleet
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, torch_seed


class Server:
    """One GAN on the union of all devices' data. The training itself is FeGAN's device half."""

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        self.site = site

    def init(self) -> State:
        """Fresh networks."""
        self.site.gan.initialise(torch_seed(self.site.config.seed, 0, SERVER, "weights"))
        return State(0, self.site.gan.models(), {})

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """E iterations on batches of B."""
        method = self.site.config.method
        load = Load(method.batch, method.iterations)
        updates = train_group(fleet, self.site, state.round + 1, state.arrays, [SERVER], [load])
        models = self.site.codec.decode(updates[0].models) if updates else state.arrays
        return State(state.round + 1, models, {}), [update.report for update in updates]
