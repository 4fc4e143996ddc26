"""FeGAN's figures 10 and 14: what the server has seen of the data under balanced and under random sampling.

    python jobs/figures/sampling.py [FOLDER]

Labels alone, no images and no training: 80 devices, C = 0.025 (2 devices a round), 200 rounds, 20 seeds. The labels
are whole Fashion-MNIST's (10 classes of 6,000; figure 10) and the paper's subset of ImageNet's (200 classes of 500;
figure 14). Writes one PNG per setting into FOLDER (docs/figures) and prints what docs/results.md says of them.
"""

import sys
from pathlib import Path

import numpy as np

from rayfed.config import parse
from rayfed.data import partition
from rayfed.report.pictures import sampling_figure
from rayfed.scheduling.divergence import kl_divergence
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, generator

DEVICES, FRACTION, ROUNDS, SEEDS = 80, 0.025, 200, 20
SETTINGS = {
    "fashion-mnist-2": (10, 6000, 2, 3000),
    "fashion-mnist-5": (10, 6000, 5, 3000),
    "imagenet-200": (200, 500, 200, 50),
}
"""name -> classes, samples of each class, max_class, max_samples"""
STOPS = (1, 5, 10, 20, 50, 100, 200)


def curves(labels: np.ndarray, split: str, sampling: str, engine: tuple[int, int], seed: int) -> np.ndarray:
    """KL divergence (nats) of the data seen after each round, and mean samples per class seen [2, ROUNDS]."""
    rng = generator(seed, 0, SERVER, "partition")
    if split == "iid":
        parts = partition.iid(labels, DEVICES, rng)
    else:
        parts = partition.fegan_engine(labels, DEVICES, *engine, rng)
    whole = np.bincount(labels)
    counts = partition.class_counts(labels, parts, len(whole))
    method = {"name": "fegan", "fraction": FRACTION, "sampling": sampling}
    scheduler = Scheduler(parse({"seed": seed, "method": method, "devices": {"count": DEVICES}}), counts)
    state, seen, points = scheduler.start(), np.zeros(len(whole), np.int64), []
    for round in range(1, ROUNDS + 1):
        group, state = scheduler.select(round, state)
        seen += counts[group].sum(axis=0)
        points.append((float(kl_divergence(seen, whole)), seen.mean()))
    return np.array(points).T


def print_table(kl: dict[str, np.ndarray], samples: dict[str, np.ndarray]) -> None:
    """Medians over the seeds at some rounds, and how many seeds have balanced below random."""
    print("round  KL balanced  KL random    KL iid  random/balanced  seeds balanced < random  samples per class")
    for stop in STOPS:
        balanced, random, iid = (values[:, stop - 1] for values in kl.values())
        medians = (f"{np.median(values):9.5f}" for values in (balanced, random, iid))
        below = f"{(balanced < random).sum()} of {SEEDS}"
        means = " / ".join(f"{values[:, stop - 1].mean():,.0f}" for values in samples.values())
        ratio = np.median(random / balanced)
        print(f"{stop:5}  {'  '.join(medians)}  {ratio:15.1f}  {below:>23}  {means}")
    rounds = {label: (values < 500).sum(axis=1) + 1 for label, values in samples.items()}
    print("rounds until 500 samples per class, median:", {label: int(np.median(r)) for label, r in rounds.items()})


def main(folder: str = "docs/figures") -> None:
    for name, (classes, size, *engine) in SETTINGS.items():
        labels = np.repeat(np.arange(classes), size)
        cases = {
            "balanced sampling": ("fegan", "balanced"),
            "random sampling": ("fegan", "random"),
            "iid data, random sampling": ("iid", "random"),
        }
        found = {
            label: np.stack([curves(labels, *case, tuple(engine), seed) for seed in range(SEEDS)])
            for label, case in cases.items()
        }
        kl = {label: values[:, 0] for label, values in found.items()}
        samples = {label: values[:, 1] for label, values in found.items() if not label.startswith("iid")}
        print(f"\n{name}: max_class {engine[0]}, max_samples {engine[1]}")
        print_table(kl, samples)
        print(sampling_figure(kl, samples, Path(folder) / f"sampling-{name}.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
