"""Training steps a second on one GPU, for 1 to 64 devices that take turns on it: eager, and as one CUDA graph.

    python benchmarks/gpu.py [--cpu]

It has never run on a GPU: none was at hand. What runs without one does so in the tests, and `--cpu` rehearses the whole
on a CPU with small sizes, where both columns are eager and the figures mean nothing.

For lsgan and dcgan28, batches of 50, float32. A device's turn is FedAvg's: its weights and Adam's moments into the
workspace, `steps` iterations of G and D, and out again. The graph holds one iteration, captured once: every device's
weights are loaded into the same memory, so that all of them replay it. The table gives iterations a second of all
devices together, the median of `repeats` rounds, and the largest difference between the two sides' losses after their
first round, which begins with the same weights, batches and seeds. The last line is the ratio of the graph to eager at
the most devices.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rayfed.config import Model
from rayfed.models.gan import GAN, seeded, to_images
from rayfed.models.networks import LATENT, architecture

NETWORKS = ("lsgan", "dcgan28")
WARM_UP = 3
"""Iterations before the capture, as torch's documentation asks; they also fix cuDNN's choice of kernels."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    devices: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    batch: int = 50
    steps: int = 20
    repeats: int = 5


REHEARSAL = Sizes(devices=(1, 2), batch=2, steps=1, repeats=1)


class StaticGAN(GAN):
    """A GAN whose iteration reads its images and noise from fixed places, which is what a CUDA graph needs.

    Without `capture` the iteration runs as it is, on any processor, with the same bits as GAN's.
    """

    def __init__(self, config: Model, batch: int, device: str) -> None:
        super().__init__(config, 1, device)
        side = architecture(config.name).side
        images = torch.empty(batch, 1, side, side, device=self.device)
        self.images = images.to(memory_format=torch.channels_last)
        self.z = torch.empty(batch, LATENT, device=self.device)
        self.run: Callable[[], Tensor] = self.iterate

    def iterate(self) -> Tensor:
        """One iteration on what lies in the fixed places: losses [2] of G and D."""
        return self.step(self.images)

    def noise(self, count: int) -> Tensor:
        """The z that was put there."""
        return self.z

    def train(self, batches: Iterable[np.ndarray], seed: int) -> tuple[float, float]:
        """See `GAN.train`."""
        with seeded(seed):
            losses = []
            for batch in batches:
                self.images.copy_(to_images(batch, self.device))
                self.z.copy_(super().noise(len(batch)))
                losses.append(self.run().clone())
        loss_g, loss_d = torch.stack(losses).mean(dim=0).tolist()
        return loss_g, loss_d

    def capture(self) -> None:
        """From now on replay the iteration as a CUDA graph. Weights and moments stay in the memory where they are."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.iterate()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self.iterate()

        def replay() -> Tensor:
            graph.replay()
            return losses

        self.run = replay


class Devices:
    """Some devices that train one after the other on a workspace; each keeps its weights and moments on the host."""

    def __init__(self, gan: GAN, count: int, batches: Sequence[np.ndarray]) -> None:
        self.gan = gan
        self.batches = batches
        gan.initialise(0)
        fresh = gan.models(), {name: np.zeros_like(values) for name, values in gan.optimizer_state().items()}
        self.states = [fresh] * count

    def round(self) -> list[tuple[float, float]]:
        """A turn of each: their mean losses."""
        losses = []
        for device, (models, moments) in enumerate(self.states):
            self.gan.load_models(models)
            self.gan.load_optimizer_state(moments)
            losses.append(self.gan.train(self.batches, seed=device))
            self.states[device] = self.gan.models(), self.gan.optimizer_state()
        return losses


def workspaces(network: str, sizes: Sizes, device: str) -> tuple[GAN, StaticGAN]:
    """The eager workspace and the other, which on a GPU is captured; both with moments, of any value."""
    config = Model(name=network)
    eager, static = GAN(config, 1, device), StaticGAN(config, sizes.batch, device)
    for gan in (eager, static):
        gan.load_optimizer_state(None)
    static.images.zero_()
    static.z.zero_()
    if device == "cuda":
        static.capture()
    return eager, static


def measure(network: str, sizes: Sizes, device: str) -> tuple[float, float]:
    """Print a row for each number of devices; iterations a second at the most devices, eager and static."""
    eager, static = workspaces(network, sizes, device)
    side = architecture(network).side
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (sizes.batch, 1, side, side), np.uint8) for _ in range(sizes.steps)]
    for count in sizes.devices:
        sides = [Devices(gan, count, batches) for gan in (eager, static)]
        first, second = (np.array(each.round()) for each in sides)
        difference = float(np.abs(first - second).max())
        seconds: list[list[float]] = [[], []]
        for _ in range(sizes.repeats):
            for each, times in zip(sides, seconds, strict=True):
                start = time.perf_counter()
                each.round()  # it ends with a copy to the host, for which the GPU has to be done
                times.append(time.perf_counter() - start)
        rates = [count * sizes.steps / statistics.median(times) for times in seconds]
        ratio = rates[1] / rates[0]
        print(
            f"{network:<8} {count:>7} {rates[0]:>9.1f} {rates[1]:>9.1f} {ratio:>7.2f} {difference:>12.2g}", flush=True
        )
    return rates[0], rates[1]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Training steps on one GPU, eager and as a CUDA graph.")
    parser.add_argument("--cpu", action="store_true", help="rehearse on a CPU; the figures mean nothing")
    rehearsal = parser.parse_args().cpu
    if not rehearsal and not torch.cuda.is_available():
        parser.exit(2, "gpu.py: torch finds no GPU (torch.cuda.is_available() is False); --cpu rehearses without one\n")
    device, sizes = ("cpu", REHEARSAL) if rehearsal else ("cuda", Sizes())
    print("CPU, a rehearsal: both sides are eager" if rehearsal else torch.cuda.get_device_name())
    print(f"{'network':<8} {'devices':>7} {'eager':>9} {'graph':>9} {'ratio':>7} {'losses apart':>12}   (iterations/s)")
    ratios = []
    for network in NETWORKS:
        eager, static = measure(network, sizes, device)
        ratios.append(f"{network} {static / eager:.2f}")
    print(f"ratio of the graph to eager, {sizes.devices[-1]} devices: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
