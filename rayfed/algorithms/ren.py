"""Ren, Liu, Yu, Guo: "A New Distributed Method for Training Generative Adversarial Networks" (2021).

One generator on the server, a discriminator on every device. Each round the scheduled devices get (phi, theta), make
n_d steps on their discriminator (Algorithm 1) and send it up; the server averages (Algorithm 2) and makes n_g steps on
the generator (Algorithm 3). Serial schedule: against the new phi, whose broadcast overlaps those steps. Parallel
schedule: against the old phi, while the devices compute, on the same noise, which both sides draw from one seed.

Both networks use the run's loss and Adam: G ascends log D(G(z)) with BCE (the non-saturating form), where the paper
writes log(1 - D(G(z))).
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rayfed.algorithms.common import Report, Scheduler, State, Update, average, collect, is_valid
from rayfed.algorithms.site import Site
from rayfed.config import Ren
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.models.gan import seeded, to_images
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, torch_seed

PHI, THETA = "discriminator", "generator"


class Device:
    """Algorithm 1. What a device owns between rounds are its Adam's moments."""

    def __init__(self, number: int, site: Site, state: Arrays) -> None:
        self.number = number
        self.site = site
        self.state = state
        self.method = method_of(site)

    def train(self, phi: Packed, theta: Packed, load: Load, round: int) -> Update:
        """n_d steps of D on m_k real and m_k generated images each; only D goes up."""
        gan, site = self.site.gan, self.site
        gan.load_models(site.codecs[PHI].decode(phi) | site.codecs[THETA].decode(theta))
        gan.load_moments(self.state or None, [PHI])
        losses = []
        with seeded(torch_seed(site.config.seed, round, self.number, "train")):
            for step, batch in enumerate(site.batches(self.number, load, round)):
                with torch.no_grad():
                    fakes = gan.fakes(noise(site, round, self.number, step)[: load.batch])
                losses.append(gan.discriminator_step(to_images(batch, gan.device), fakes))
        if self.method.moments == "keep":
            self.state = gan.moments([PHI])
        models = site.codecs[PHI].encode(gan.models([PHI]))
        return Update(self.number, models, load, np.nan, float(torch.stack(losses).mean()))


def noise(site: Site, round: int, node: int, step: int) -> Tensor:
    """z [batch, latent] of a step; with the parallel schedule all nodes draw the same (section III.A)."""
    method = method_of(site)
    seed = torch_seed(site.config.seed, round, SERVER if method.schedule == "parallel" else node, f"noise {step}")
    with seeded(seed):
        return site.gan.noise(method.batch)


def method_of(site: Site) -> Ren:
    """The run's method, which is this one."""
    assert isinstance(site.config.method, Ren)
    return site.config.method


class Server:
    """Scheduling, Algorithms 2 and 3, and the two schedules of section III."""

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        self.site = site
        self.scheduler = scheduler
        self.method = method_of(site)

    def init(self) -> State:
        """Fresh networks; G's moments at zero."""
        gan = self.site.gan
        gan.initialise(torch_seed(self.site.config.seed, 0, SERVER, "weights"))
        gan.load_moments(None, [THETA])
        return State(0, gan.models() | gan.moments([THETA]), {"sampler": self.scheduler.start()})

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One communication round; without any update both models stay as they are."""
        round = state.round + 1
        group, sampler = self.scheduler.select(round, state.facts["sampler"])
        phi = fleet.share(self._encode(state, PHI), since="phi")
        theta = fleet.share(self._encode(state, THETA))
        futures = [
            fleet.submit(device, "train", phi, theta, load, round, cost=load.images)
            for device, load in self._loads(sorted(group))
        ]
        arrays, loss = state.arrays, np.nan
        if self.method.schedule == "parallel":
            arrays, loss = self.update_generator(fleet, state.arrays, round)
        updates = [each for each in collect(fleet, self.site, futures) if is_valid(each.models, self.site.codecs[PHI])]
        if not updates:
            return State(round, state.arrays, {"sampler": sampler}), []
        arrays = arrays | average(self.site, fleet, self.site.codecs[PHI], updates, sample_weights(updates))
        fleet.mark("phi")
        if self.method.schedule == "serial":
            arrays, loss = self.update_generator(fleet, arrays, round)
        reports = [replace(update.report, loss_g=loss) for update in updates]
        return State(round, arrays, {"sampler": sampler}), reports

    def update_generator(self, fleet: Fleet, arrays: Arrays, round: int) -> tuple[Arrays, float]:
        """Algorithm 3: n_g steps of G against `arrays`' phi; the new arrays and G's mean loss."""
        gan, site = self.site.gan, self.site
        with site.work(fleet, "update generator"), seeded(torch_seed(site.config.seed, round, SERVER, "train")):
            gan.load_models({name: arrays[name] for name in (PHI, THETA)})
            gan.load_moments(arrays, [THETA])
            steps = range(self.method.g_steps)
            losses = [gan.generator_step(gan.fakes(noise(site, round, SERVER, step))) for step in steps]
            return arrays | gan.models([THETA]) | gan.moments([THETA]), float(torch.stack(losses).mean())

    def _loads(self, group: list[int]) -> list[tuple[int, Load]]:
        return list(zip(group, self.scheduler.loads(group), strict=True))

    def _encode(self, state: State, name: str) -> Packed:
        return self.site.codecs[name].encode({name: state.arrays[name]})


def sample_weights(updates: list[Update]) -> np.ndarray:
    """m_k / sum of the participants' m_j (Algorithm 2)."""
    samples = np.array([update.load.batch for update in updates], dtype=float)
    return samples / samples.sum()
