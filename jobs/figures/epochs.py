"""FeGAN's table 1: simulated time for 200 epochs with balanced and with random sampling, four data settings.

    python jobs/figures/epochs.py [FOLDER]

An epoch is over when the participants of the rounds so far hold as many samples as all devices together (every time a
device takes part, all it holds counts). A round takes what the twin says of the paper's testbed (section 4); E and B
are the same for all, so a round's time is the same whoever takes part, and the gain is the number of rounds. Labels
alone: 80 devices, C = 0.025, 10 seeds; those of Fashion-MNIST (10 classes of 6,000), the paper's default data set
(section 4), whose ten classes cap a larger max_class.
"""

import sys
from pathlib import Path

import numpy as np
from record import record
from throughput import fegan

from rayfed.config import parse
from rayfed.data import partition
from rayfed.report.curves import Panel, curves_figure
from rayfed.scheduling.scheduler import Scheduler
from rayfed.seeding import SERVER, generator

DEVICES, FRACTION, EPOCHS, SEEDS = 80, 0.025, 200, 10
LABELS = np.repeat(np.arange(10), 6000)
SETTINGS = {(5, 3000): 1.47, (10, 2000): 1.57, (20, 3000): 1.59, (40, 4000): 1.49}
"""(max_class, max_samples) of the paper's columns -> its gain"""


def rounds_for_epochs(engine: tuple[int, int], sampling: str, seed: int) -> np.ndarray:
    """Rounds until each of EPOCHS epochs is over [EPOCHS]."""
    parts = partition.fegan_engine(LABELS, DEVICES, *engine, generator(seed, 0, SERVER, "partition"))
    counts = partition.class_counts(LABELS, parts, LABELS.max() + 1)
    method = {"name": "fegan", "fraction": FRACTION, "sampling": sampling}
    scheduler = Scheduler(parse({"seed": seed, "method": method, "devices": {"count": DEVICES}}), counts)
    state, seen, total, ends, round = scheduler.start(), 0, int(counts.sum()), [], 0
    while len(ends) < EPOCHS:
        round += 1
        group, state = scheduler.select(round, state)
        seen += int(counts[group].sum())
        while len(ends) < EPOCHS and seen >= total * (len(ends) + 1):
            ends.append(round)
    return np.array(ends)


def main(folder: str = "docs/figures") -> None:
    seconds = fegan(DEVICES, 0.1)["sim_seconds"]
    table, panels = [], []
    for engine, gain in SETTINGS.items():
        rounds = {
            name: np.stack([rounds_for_epochs(engine, name, seed) for seed in range(SEEDS)])
            for name in ("balanced", "random")
        }
        ends = {name: values[:, -1] * seconds for name, values in rounds.items()}
        ratio = ends["random"] / ends["balanced"]
        table.append(
            {
                "max_class": engine[0],
                "max_samples": engine[1],
                "balanced (s)": float(ends["balanced"].mean()),
                "random (s)": float(ends["random"].mean()),
                "gain": float(ratio.mean()),
                "lowest": float(ratio.min()),
                "highest": float(ratio.max()),
                "paper's gain": gain,
            }
        )
        curves = {f"{name} sampling": (np.arange(1, EPOCHS + 1), values * seconds) for name, values in rounds.items()}
        panels.append(Panel(f"max_class {engine[0]}, max_samples {engine[1]}", "epochs", "simulated seconds", curves))
    record("fegan-table-1", curves_figure(panels, Path(folder) / "fegan-table-1.png"), table, {"C": FRACTION})


if __name__ == "__main__":
    main(*sys.argv[1:])
