"""FSL-GAN's figure 2: the slowest client's time per epoch under each strategy, and under the exact placement.

    python jobs/figures/placement.py [FOLDER]

The paper's table of six clients (jobs/devices/paper.csv), its discriminator in its three portions, 24 batches of 256
real images an epoch (section 5) and as many fakes; random strategies over 100 seeds. Compute is counted, not measured,
at two speeds of a device with time factor 1: 10 GFLOP/s, a phone's, and the peak of the paper's Tesla P100, where the
50 ms of a hop weigh more than all else. Seconds; writes a PNG into FOLDER (docs/figures).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from record import record

from rayfed.config import Model
from rayfed.config.table import Client, load_table
from rayfed.models.block import merge, paper_ends
from rayfed.models.portions import described
from rayfed.report.pictures import figure_of, frame
from rayfed.scheduling.placement import optimal
from rayfed.scheduling.portions import HEURISTICS, Plan, Workload, heuristics, workload
from rayfed.seeding import generator

TABLE = Path(__file__).parents[1] / "devices" / "paper.csv"
SPEEDS = {"10 GFLOP/s at time factor 1": 1e10, "9.3 TFLOP/s, a P100's peak": 9.3e12}
BATCH, BATCHES, SEEDS = 256, 24, 100
Epochs = Mapping[str, np.ndarray]
"""strategy -> seconds of the slowest client's epoch [SEEDS]."""


def slowest(plans: Sequence[Plan]) -> float:
    """Seconds of an epoch."""
    return BATCHES * max(plan.step_seconds for plan in plans)


def epochs(clients: Sequence[Client], work: Workload) -> Epochs:
    """The clients that cannot hold the discriminator take no part. The others can under all strategies: asserted."""
    best = optimal(clients, work)
    taking_part = [client for client, plan in zip(clients, best, strict=True) if plan]
    found: dict[str, list[float]] = {strategy: [] for strategy in HEURISTICS}
    for seed in range(SEEDS):
        plans = [heuristics(client, work, generator(seed, 0, k, "placement")) for k, client in enumerate(taking_part)]
        for strategy, values in found.items():
            chosen = [plan for each in plans if (plan := each[strategy])]
            assert len(chosen) == len(taking_part)
            values.append(slowest(chosen))
    found["optimal"] = [slowest([plan for plan in best if plan])] * SEEDS
    return {strategy: np.array(values) for strategy, values in found.items()}


def mean_and_std(values: np.ndarray) -> tuple[float, float]:
    """From the first value on, so that equal ones have no spread at all."""
    return float(values.mean()), float((values - values[0]).std())


def draw(panels: Mapping[str, Epochs], path: Path) -> Path:
    figure = figure_of(11, 4.2)
    for axes, (title, found) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        frame(axes, title, "seconds per epoch, slowest client", x="")
        labels = [strategy.replace("_", " +\n") for strategy in found]
        means, spreads = zip(*(mean_and_std(values) for values in found.values()), strict=True)
        axes.bar(labels, means, yerr=spreads, capsize=4, color=["C0"] * len(HEURISTICS) + ["C1"])
        axes.set_axisbelow(True)
        axes.grid(visible=False, axis="x")
    figure.savefig(path, dpi=120)
    return path


def main(folder: str = "docs/figures") -> None:
    clients, blocks = load_table(TABLE), described(Model(name="dcgan28"))
    portions = merge(blocks, paper_ends(len(blocks)))
    panels = {title: epochs(clients, workload(portions, 2 * BATCH, speed)) for title, speed in SPEEDS.items()}
    table = []
    for title, found in panels.items():
        for strategy, values in found.items():
            mean, std = mean_and_std(values)
            extremes = {"lowest": float(values.min()), "highest": float(values.max())}
            table.append({"speed": title, "strategy": strategy, "mean s": mean, "std s": std, **extremes})
    figure = draw(panels, Path(folder) / "fsl-gan-2.png")
    record("fsl-gan-2", figure, table, {"batch": BATCH, "batches": BATCHES, "seeds": SEEDS, "speeds": [*SPEEDS]})


if __name__ == "__main__":
    main(*sys.argv[1:])
