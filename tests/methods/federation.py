"""A federation of a few devices with a few random images, and the loops of a plain PyTorch program to hold it against.

The plain programs share with the code under test the networks' layers and the keys of its random numbers, nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from rayfed.config import RunConfig, parse
from rayfed.data.population import Population
from rayfed.data.shard import Shards
from rayfed.engine.trainer import device_host
from rayfed.fleet.host import Host
from rayfed.fleet.local import LocalFleet
from rayfed.methods.context import DeviceContext, ServerContext
from rayfed.methods.spec import method_of
from rayfed.models.networks import LATENT, architecture, initialise
from rayfed.seeding import generator, torch_seed

SEED = 3
SIDE = 28


class Federation:
    """A method's two halves in this process. counts [K, C]: samples per device and class."""

    def __init__(
        self,
        method: dict[str, Any],
        counts: Any,
        device: Callable[..., Any] | None = None,
        processor: str = "cpu",
        **more: Any,
    ):
        self.counts = np.asarray(counts)
        devices, classes = self.counts.shape
        tree = {"method": method, "devices": {"count": devices}, "model": {"name": "dcgan28", "width": 4}, "seed": SEED}
        self.config: RunConfig = parse(tree | more)
        total = int(self.counts.sum())
        self.images = np.random.default_rng(0).integers(0, 256, (total, 1, SIDE, SIDE), np.uint8)
        self.labels = np.repeat(np.tile(np.arange(classes), devices), self.counts.ravel())
        self.parts = np.split(np.arange(total), np.cumsum(self.counts.sum(axis=1))[:-1])
        spec, held = method_of(self.config), self.counts.sum(axis=0)
        population = Population(1, self.counts, union=held, whole=held)
        shards = Shards(self.images, self.labels, self.parts, classes, SEED)
        host = device_host(self.config, population, shards, processor)
        if device is not None:
            workspace = spec.task.workspace(self.config, population)

            def build(number: Any, state: Any) -> Any:
                return device(DeviceContext(number, self.config, workspace, shards.of(number)), state)

            host = Host(build, workspace.meter.take)
        self.host = host
        self.fleet = LocalFleet(host)
        workspace_of_server = spec.task.workspace(self.config, population, processor)
        scheduler = spec.scheduler(self.config, population)
        self.server = spec.server_half()(ServerContext(self.config, workspace_of_server, scheduler))

    def rounds(self, count: int = 1) -> Any:
        """Some rounds from the start; the last (State, reports)."""
        state, reports = self.server.init(), []
        for _ in range(count):
            state, reports = self.server.round(state, self.fleet)
        return state, reports

    def generator_gradient(self) -> np.ndarray:
        """What the server's generator was last updated by."""
        return gradient(self.server.workspace.gan.generator)

    def reals(self, device: int, round: int, batch: int) -> Iterator[Tensor]:
        """A device's batches of a round: its samples shuffled, again and again."""
        for samples in self.real_samples(device, round, batch):
            yield torch.from_numpy(self.images[samples]).float() / 127.5 - 1

    def real_samples(self, device: int, round: int, batch: int) -> Iterator[np.ndarray]:
        """The indices of `reals`."""
        rng, order = generator(SEED, round, device, "batches"), np.empty(0, np.int64)
        while True:
            while len(order) < batch:
                order = np.concatenate((order, rng.permutation(self.parts[device])))
            yield order[:batch]
            order = order[batch:]


def networks(node: int, classes: int = 0) -> tuple[nn.Module, nn.Module]:
    """G and D as a node draws them, in training mode."""
    pair = architecture("dcgan28").build(1, 4, classes)
    torch.manual_seed(torch_seed(SEED, 0, node, "weights"))
    for network in pair:
        initialise(network.train().to(memory_format=torch.channels_last))
    return pair


def adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999), fused=True)


def seed(round: int, node: int, purpose: str) -> None:
    torch.manual_seed(torch_seed(SEED, round, node, purpose))


def noise(count: int) -> Tensor:
    return torch.randn(count, LATENT)


def real_loss(scores: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(scores, torch.ones_like(scores))


def fake_loss(scores: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(scores, torch.zeros_like(scores))


def discriminator_step(
    discriminator: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, fakes: Tensor
) -> float:
    optimizer.zero_grad()
    score_real, score_fake = discriminator(real), discriminator(fakes.detach())
    loss = (real_loss(score_real) + fake_loss(score_fake)) / 2
    loss.backward()
    optimizer.step()
    return loss.item()


def gradient(network: nn.Module) -> np.ndarray:
    return flat([parameter.grad for parameter in network.parameters()])


def vector(network: nn.Module) -> np.ndarray:
    """Parameters and buffers in the order of torch's state_dict."""
    return flat(list(network.state_dict().values()))


def flat(tensors: Sequence[Any]) -> np.ndarray:
    return torch.cat([tensor.detach().float().flatten() for tensor in tensors]).numpy()


def assert_near(ours: np.ndarray, theirs: np.ndarray, share: float = 1e-5) -> None:
    """The distance between two vectors is at most this share of their length."""
    assert np.linalg.norm(theirs) > 0
    assert np.linalg.norm(ours - theirs) <= share * np.linalg.norm(theirs)
