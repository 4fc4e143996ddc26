"""FeGAN (Guerraoui, Guirguis, Kermarrec, Le Merrer: "FeGAN: Scaling Distributed GANs", Middleware 2020).

Every device holds a whole GAN. Each round the server picks C*K devices by balanced sampling (section 3.3; see
`rayfed.scheduling.sampling.balanced`), sends them (G, D), lets each run E iterations on batches of B of its own data
(`rayfed.methods.fedavg.Device`), and averages both networks with KL weights (section 3.3) times the devices' training
loads (section 3.4; see `rayfed.scheduling.load`). Without sampling and weighting it is FL-VANILLA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from rayfed.aggregation import uniform
from rayfed.aggregation.weights import Weights
from rayfed.config import FederatedTraining
from rayfed.config.training import Sampling
from rayfed.ids import ClientId
from rayfed.methods import fedavg
from rayfed.methods.context import ServerContext
from rayfed.methods.spec import BOTH, MethodSpec
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.load import Load
from rayfed.scheduling.scheduler import Scheduler

if TYPE_CHECKING:
    from rayfed.tasks.gan.workspace import GanWorkspace


class Settings(FederatedTraining):
    """FeGAN (Guerraoui et al. 2020); `sampling` and `weighting` are its s and w."""

    sampling: Sampling = "balanced"
    """Who takes part: `balanced` is the paper's s = 1, `random` its s = 0."""
    weighting: Literal["kl", "uniform"] = "kl"
    """The weights of the average: `kl` is the paper's w = 1, `uniform` its w = 0."""
    scheme: Literal["exp", "linear", "dirac"] = "exp"
    """How KL scores s_k become weights: in proportion to exp(s_k), or to s_k (`linear`), or as `exp` with weights under
    0.5 set to 0 (`dirac`)."""
    sign: Literal["authors", "opposite"] = "authors"
    """The exponent's sign: exp(s_k), which favours skewed devices, or exp(-s_k), which disfavours them."""

    @model_validator(mode="after")
    def _sign_needs_an_exponent(self) -> Settings:
        if self.sign == "opposite" and self.scheme == "linear":
            raise ValueError("method.sign = 'opposite': the linear scheme has no exponent to turn; use exp or dirac")
        return self


class Server(fedavg.Server):
    """Server operation (section 3.2): FedAvg's round with KL weights."""

    def __init__(self, context: ServerContext[GanWorkspace, Scheduler]) -> None:
        super().__init__(context)
        assert isinstance(context.config.method, Settings)
        self.method = context.config.method
        self.scores = kl_scores(self.scheduler.class_counts())
        self.weigh = uniform if self.method.weighting == "uniform" else self.by_divergence

    def by_divergence(self, clients: Sequence[ClientId], loads: Sequence[Load]) -> Weights:
        """KL weights times the loads that the devices were assigned (B x E), summing to 1."""
        images = np.array([load.assigned_images for load in loads], dtype=float)
        weights = kl_weights(self.scores[list(clients)], self.method.scheme, self.method.sign) * images
        return _normalised(weights)


def kl_scores(counts: NDArray[np.int64]) -> Weights:
    """s_k = n_k / n * D_KL(P_k || Q) for class counts [K, C] (section 3.2); 0 for a device without samples."""
    samples = counts.sum(axis=1)
    divergence = np.where(samples > 0, kl_divergence(counts, counts.sum(axis=0)), 0.0)
    scores: Weights = samples / samples.sum() * divergence
    return scores


def kl_weights(scores: Weights, scheme: str, sign: str) -> Weights:
    """KL weights of a round's devices from their scores [P], summing to 1 (section 3.3).

    exp: w_k = exp(s_k) / sum exp(s_j), the authors' default; their sign favours skewed devices, `opposite` takes
    exp(-s_k). linear: w_k = s_k / sum s_j. dirac: exp, then weights under 0.5 become 0.
    Where linear or dirac leave no weight at all (every score 0, nobody at 0.5) the weights are exp's.
    """
    exponent = scores if sign == "authors" else -scores
    weights = _normalised(np.exp(exponent - exponent.max()))
    if scheme == "linear" and scores.sum() > 0:
        return _normalised(scores)
    if scheme == "dirac" and weights.max() >= 0.5:
        return _normalised(np.where(weights < 0.5, 0.0, weights))
    return weights


def _normalised(values: Weights) -> Weights:
    weights: Weights = values / values.sum()
    return weights


METHOD = MethodSpec(
    name="fegan",
    about="FeGAN: balanced sampling and KL weighting (Guerraoui et al. 2020)",
    settings=Settings,
    server=Server,
    device=fedavg.Device,
    trains=BOTH,
)
