"""One host's training step against a plain PyTorch loop on the same network, alternating, as a ratio.

    python benchmarks/step.py [float32|bf16]

The plain loop is what a user writes first: torch's default memory format, float32, nearest Upsample + Conv2d,
unfused Adam. Both run FeGAN's LSGAN on batches of 50, on one thread, each in a process of its own: ours set up as a
device host's is, the plain loop's as torch comes, and once more set up as ours (`rayfed.models.process`). bf16 needs a
CPU that multiplies bfloat16. The last line is the ratio of images per second, ours to plain: the median over pairs.
"""

import multiprocessing
import statistics
import sys
import time
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rayfed.config import Model
from rayfed.models.gan import GAN, cpu_has_bf16
from rayfed.models.process import set_up

BATCH, ITERATIONS, PAIRS = 50, 8, 7
WARM_UP = 2


def plain_networks() -> tuple[nn.Module, nn.Module]:
    generator = nn.Sequential(
        nn.Linear(100, 128 * 8 * 8),
        nn.Unflatten(1, (128, 8, 8)),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 128, 3, padding=1),
        nn.BatchNorm2d(128, 0.8),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 64, 3, padding=1),
        nn.BatchNorm2d(64, 0.8),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 3, padding=1),
        nn.Tanh(),
    )
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]
        if inputs > 1:
            layers.append(nn.BatchNorm2d(outputs, 0.8))
    return generator, nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 1))


class Plain:
    def __init__(self) -> None:
        self.generator, self.discriminator = plain_networks()
        self.adam_g = torch.optim.Adam(self.generator.parameters(), 2e-4, (0.5, 0.999))
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), 2e-4, (0.5, 0.999))

    def train(self, batches: list[np.ndarray]) -> None:
        for batch in batches:
            real = torch.from_numpy(batch).float() / 127.5 - 1
            one, zero = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            z = torch.randn(len(real), 100)
            self.adam_g.zero_grad()
            fakes = self.generator(z)
            F.mse_loss(self.discriminator(fakes), one).backward()
            self.adam_g.step()
            self.adam_d.zero_grad()
            loss_d = F.mse_loss(self.discriminator(real), one) + F.mse_loss(self.discriminator(fakes.detach()), zero)
            (loss_d / 2).backward()
            self.adam_d.step()


class Side:
    """A process that trains on the same batches whenever it is told to: ours or the plain loop."""

    def __init__(self, precision: str | None, tuned: bool) -> None:
        """`precision` of ours, None for the plain loop; `tuned`: whether the process is set up as a device host's."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(precision, tuned, theirs), daemon=True)
        self.process.start()
        self.parameters = self.pipe.recv()

    def images_per_second(self) -> float:
        self.pipe.send(True)
        return ITERATIONS * BATCH / self.pipe.recv()


def serve(precision: str | None, tuned: bool, pipe) -> None:
    set_up() if tuned else torch.set_num_threads(1)
    train, parameters = plain_loop() if precision is None else rayfed_gan(precision)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (BATCH, 1, 32, 32), np.uint8) for _ in range(ITERATIONS)]
    pipe.send(parameters)
    while pipe.recv():
        start = time.perf_counter()
        train(batches)
        pipe.send(time.perf_counter() - start)


def plain_loop():
    torch.manual_seed(0)
    loop = Plain()
    networks = (loop.generator, loop.discriminator)
    return loop.train, sum(tensor.numel() for net in networks for tensor in net.state_dict().values())


def rayfed_gan(precision: str):
    gan = GAN(Model(precision=precision), 1)
    gan.initialise(0)
    return partial(gan.train, seed=0), sum(map(np.size, gan.models().values()))


def main(precision: str = "float32") -> None:
    if precision == "bf16" and not cpu_has_bf16():
        print("bf16: not measured, this CPU emulates bfloat16")
        return
    ours, plain, tuned = Side(precision, True), Side(None, False), Side(None, True)
    assert ours.parameters == plain.parameters
    ratios = []
    for pair in range(WARM_UP + PAIRS):
        theirs, alike, mine = (side.images_per_second() for side in (plain, tuned, ours))
        if pair >= WARM_UP:
            ratios.append((mine / theirs, mine / alike))
            speeds = f"rayfed {mine:6.1f} images/s   plain {theirs:6.1f} images/s, set up alike {alike:6.1f}"
            print(f"{speeds}   ratio {mine / theirs:.2f}, {mine / alike:.2f}", flush=True)
    for side in (plain, tuned, ours):
        side.pipe.send(False)
    ratio, to_alike = map(statistics.median, zip(*ratios, strict=True))
    print(f"{precision}: ratio {ratio:.2f} ({to_alike:.2f} to a plain loop set up alike)")


if __name__ == "__main__":
    main(*sys.argv[1:])
