"""One generator against one discriminator on one processor: the training step that every method builds on."""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rayfed.config import Model
from rayfed.models import flat
from rayfed.models.networks import ARCHITECTURES, LATENT, initialise

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {"mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}
WIDTH = 64
"""ngf = ndf of the published DCGANs."""


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def to_images(batch: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] to float32 in [-1, 1], channels_last."""
    x = torch.from_numpy(batch).to(device)
    return x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1)


def to_uint8(x: Tensor) -> np.ndarray:
    """float [B, C, H, W] in [-1, 1] to uint8."""
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).contiguous().cpu().numpy()


class GAN:
    """A workspace: networks and optimizers that are loaded with a device's weights when it is that device's turn."""

    def __init__(self, config: Model, channels: int, device: str = "cpu") -> None:
        architecture = ARCHITECTURES[config.name]
        self.device = torch.device(device)
        self.generator, self.discriminator = (
            network.to(self.device).to(memory_format=torch.channels_last)
            for network in architecture.build(channels, config.width or WIDTH)
        )
        self.loss = LOSSES[config.loss or architecture.loss]
        self.bf16 = config.precision == "bf16"
        self.config = config

    @cached_property
    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """Made when training asks for them: torch's first optimizer takes a second and 150 MB."""
        config = self.config
        return {
            name: torch.optim.Adam(network.parameters(), config.lr, (config.beta1, config.beta2), fused=True)
            for name, network in self.networks.items()
        }

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The two networks by the names their vectors carry."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Values per tensor of each network, parameters and buffers."""
        return {name: flat.sizes(network) for name, network in self.networks.items()}

    def initialise(self, seed: int) -> None:
        """Draw fresh weights from `seed`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for network in self.networks.values():
                initialise(network)

    def models(self) -> dict[str, np.ndarray]:
        """Both networks as float32 vectors."""
        return {name: flat.module_to_vector(network) for name, network in self.networks.items()}

    def load_models(self, models: Mapping[str, np.ndarray]) -> None:
        """Load the networks that `models` holds."""
        for name, vector in models.items():
            flat.vector_to_module(vector, self.networks[name])

    def moments(self) -> dict[str, np.ndarray]:
        """Adam's state as plain arrays: step [1], exp_avg [n] and exp_avg_sq [n] of each network."""
        return {
            f"{name}.{key}": flat.flatten(state[key] for state in optimizer.state.values())
            for name, optimizer in self.optimizers.items()
            for key in ("step", "exp_avg", "exp_avg_sq")
        }

    def load_moments(self, moments: Mapping[str, np.ndarray] | None) -> None:
        """Load what `moments()` gave; None starts afresh."""
        for name, optimizer in self.optimizers.items():
            if moments is None or not optimizer.state:
                for parameter in self.networks[name].parameters():
                    optimizer.state[parameter] = {
                        "step": torch.zeros((), device=self.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            if moments is not None:
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    flat.unflatten(moments[f"{name}.{key}"], [state[key] for state in optimizer.state.values()])

    def train(self, batches: Iterable[np.ndarray], seed: int) -> tuple[float, float]:
        """One step of G and of D per uint8 batch [B, C, H, W]; the mean losses (G, D).

        Latent vectors and dropout are drawn from `seed`, whatever torch's global generators hold.
        """
        self.generator.train()
        self.discriminator.train()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            losses = torch.stack([self.step(to_images(batch, self.device)) for batch in batches])
        loss_g, loss_d = losses.mean(dim=0).tolist()
        return loss_g, loss_d

    def step(self, real: Tensor) -> Tensor:
        """FeGAN's local iteration on real images [B, C, H, W] in [-1, 1]: losses [2] of G and D.

        One draw of z serves both: G on loss(D(G(z)), 1), then D on the mean of loss(D(x), 1) and loss(D(G(z)), 0).
        """
        z = torch.randn(len(real), LATENT, device=self.device)
        real_label = torch.ones(len(real), 1, device=self.device)

        self.discriminator.requires_grad_(False)
        with self._autocast():
            fakes = self.generator(z)
            score = self.discriminator(fakes)
        loss_g = self.loss(score.float(), real_label)
        self._update("generator", loss_g)

        self.discriminator.requires_grad_(True)
        with self._autocast():
            score_real, score_fake = self.discriminator(real), self.discriminator(fakes.detach())
        loss_d = self.loss(score_real.float(), real_label) + self.loss(score_fake.float(), 1 - real_label)
        loss_d = loss_d / 2
        self._update("discriminator", loss_d)
        return torch.stack((loss_g.detach(), loss_d.detach()))

    def _update(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @torch.inference_mode()
    def generate(self, count: int, seed: int, batch: int = 250) -> np.ndarray:
        """`count` images, uint8 [count, C, H, W], from the generator in evaluation mode and noise keyed by `seed`."""
        self.generator.eval()
        noise = torch.randn(count, LATENT, generator=torch.Generator().manual_seed(seed)).to(self.device)
        return np.concatenate([to_uint8(self.generator(z)) for z in noise.split(batch)])
