"""FedAvg of whole GANs (McMahan et al. 2017, applied to G and D together).

FL-VANILLA, FeGAN's baseline, takes the plain mean; FedGAN (Rasouli et al. 2020) weights each device by its
share n_k / n of the participants' samples. The device half is FeGAN's.
"""

import numpy as np

from rayfed.algorithms.common import Report, Scheduler, State, Update, average, train_group
from rayfed.algorithms.site import Site
from rayfed.fleet.protocol import Fleet
from rayfed.seeding import SERVER, torch_seed


class Server:
    """Participants (random unless configured), local training, a mean."""

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        self.site = site
        self.scheduler = scheduler
        self.samples = scheduler.class_counts().sum(axis=1)

    def init(self) -> State:
        """Fresh networks."""
        self.site.gan.initialise(torch_seed(self.site.config.seed, 0, SERVER, "weights"))
        return State(0, self.site.gan.models(), {"sampler": self.scheduler.start()})

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One round of FedAvg; without any update the models stay as they are."""
        round = state.round + 1
        group, sampler = self.scheduler.select(round, state.facts["sampler"])
        updates = train_group(fleet, self.site, round, state.arrays, group, self.scheduler.loads(group))
        models = state.arrays
        if updates:
            models = average(self.site, fleet, self.site.codec, updates, self.weights(updates))
        return State(round, models, {"sampler": sampler}), [update.report for update in updates]

    def weights(self, updates: list[Update]) -> np.ndarray:
        """FL-VANILLA: 1 / P for each of P participants."""
        return np.full(len(updates), 1 / len(updates))


class FedGanServer(Server):
    """FedAvg weighted by the devices' samples."""

    def weights(self, updates: list[Update]) -> np.ndarray:
        """n_k / sum of the participants' n_j."""
        samples = self.samples[[update.device for update in updates]].astype(float)
        return samples / samples.sum()
