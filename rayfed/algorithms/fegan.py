"""FeGAN (Guerraoui, Guirguis, Kermarrec, Le Merrer: "FeGAN: Scaling Distributed GANs", Middleware 2020).

Every device holds a whole GAN. Each round the server picks C*K devices by balanced sampling (section 3.3), sends
them (G, D), lets each run E iterations on batches of B of its own data, and averages both networks with KL
weights (section 3.3) times the devices' training loads (section 3.4). Without sampling and weighting it is
FL-VANILLA.
"""

import numpy as np

from rayfed.algorithms.common import Report, Scheduler, State, Update, average, train_group
from rayfed.algorithms.site import Site
from rayfed.config import Centralized, FederatedTraining, Fegan
from rayfed.fleet.codec import Packed
from rayfed.fleet.protocol import Arrays, Fleet
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.load import Load
from rayfed.seeding import SERVER, torch_seed


class Device:
    """Device operation (section 3.2). What a device owns between rounds are Adam's moments."""

    def __init__(self, number: int, site: Site, state: Arrays) -> None:
        self.number = number
        self.site = site
        self.state = state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        """E local iterations of (G, D) on batches of B, from the server's models."""
        gan, config = self.site.gan, self.site.config
        assert isinstance(config.method, FederatedTraining | Centralized)
        gan.load_models(self.site.codec.decode(models))
        gan.load_moments(self.state or None)
        seed = torch_seed(config.seed, round, self.number, "train")
        loss_g, loss_d = gan.train(self.site.batches(self.number, load, round), seed)
        if config.method.moments == "keep":
            self.state = gan.moments()
        return Update(self.number, self.site.codec.encode(gan.models()), load, loss_g, loss_d)


class Server:
    """Server operation (section 3.2)."""

    def __init__(self, site: Site, scheduler: Scheduler) -> None:
        self.site = site
        self.scheduler = scheduler
        assert isinstance(site.config.method, Fegan)
        self.method = site.config.method
        self.scores = kl_scores(scheduler.class_counts())

    def init(self) -> State:
        """Fresh networks, and balanced sampling's queues and counters before the first round."""
        self.site.gan.initialise(torch_seed(self.site.config.seed, 0, SERVER, "weights"))
        return State(0, self.site.gan.models(), {"sampler": self.scheduler.start()})

    def round(self, state: State, fleet: Fleet) -> tuple[State, list[Report]]:
        """One round: sample, train, weight, average. Without any update the models stay as they are."""
        round = state.round + 1
        group, sampler = self.scheduler.select(round, state.facts["sampler"])
        updates = train_group(fleet, self.site, round, state.arrays, group, self.scheduler.loads(group))
        models = state.arrays
        if updates:
            models = average(self.site, fleet, self.site.codec, updates, self.weights(updates))
        return State(round, models, {"sampler": sampler}), [update.report for update in updates]

    def weights(self, updates: list[Update]) -> np.ndarray:
        """The updates' weights, summing to 1: KL weights times loads, or the plain mean when weighting is off."""
        method = self.method
        if method.weighting == "uniform":
            return np.full(len(updates), 1 / len(updates))
        scores = self.scores[[update.device for update in updates]]
        loads = np.array([update.load.images for update in updates], dtype=float)
        weights = kl_weights(scores, method.scheme, method.sign) * loads
        return weights / weights.sum()


def kl_scores(counts: np.ndarray) -> np.ndarray:
    """s_k = n_k / n * D_KL(P_k || Q) for class counts [K, C] (section 3.2); 0 for a device without samples."""
    samples = counts.sum(axis=1)
    divergence = np.where(samples > 0, kl_divergence(counts, counts.sum(axis=0)), 0.0)
    return samples / samples.sum() * divergence


def kl_weights(scores: np.ndarray, scheme: str, sign: str) -> np.ndarray:
    """KL weights of a round's devices from their scores [P], summing to 1 (section 3.3).

    exp: w_k = exp(s_k) / sum exp(s_j), the authors' default; their sign favours skewed devices, `opposite` takes
    exp(-s_k). linear: w_k = s_k / sum s_j. dirac: exp, then weights under 0.5 become 0.
    Where linear or dirac leave no weight at all (every score 0, nobody at 0.5) the weights are exp's.
    """
    exponent = scores if sign == "authors" else -scores
    weights = np.exp(exponent - exponent.max())
    weights /= weights.sum()
    if scheme == "linear" and scores.sum() > 0:
        return scores / scores.sum()
    if scheme == "dirac" and weights.max() >= 0.5:
        weights = np.where(weights < 0.5, 0.0, weights)
        return weights / weights.sum()
    return weights
