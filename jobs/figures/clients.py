"""FSL-GAN's figure 3: the generator's loss against epochs with 1, 3, 5, 7 and 8 clients, trained for real.

    python jobs/figures/clients.py [FOLDER] [EPOCHS] [STRATEGY]

Every client has the devices of the paper's first one and an equal share of the data. The size is one that two cores
finish in minutes: 6,000 images of Fashion-MNIST, DCGAN 28x28 of width 16, 20 EPOCHS of 8 batches of 32. The paper has
500 epochs of 24 batches of 256 on MNIST: jobs/figures/fsl-gan-full.yaml. STRATEGY (sorted_single: three devices) places
the portions and changes simulated time alone, no loss. Writes a PNG into FOLDER (docs/figures).
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from rayfed.config import parse
from rayfed.config.table import load_table
from rayfed.data.setup import prepare
from rayfed.engine.session import LocalSession
from rayfed.report.curves import Panel, curves_figure

CLIENTS, SEEDS = (1, 3, 5, 7, 8), (0,)
TABLE = Path(__file__).parents[1] / "devices" / "paper.csv"


def losses(clients: int, seed: int, epochs: int, strategy: str) -> list[dict[str, Any]]:
    """The metrics of each epoch."""
    first = load_table(TABLE)[0].model_dump()
    method = {"name": "fsl-gan", "batch": 32, "iterations": 8, "strategy": strategy}
    config = parse(
        {
            "seed": seed,
            "method": method | {"clients": [first | {"name": f"{k}"} for k in range(clients)]},
            "devices": {"count": clients},
            "data": {"partition": "iid"},
            "model": {"name": "dcgan28", "width": 16},
            "evaluation": {"every": 0},
            "twin": {"network": {"kind": "lan"}},
        }
    )
    session = LocalSession(config, prepare(config, 28))
    session.start(None)
    return [session.round().metrics for _ in range(epochs)]


def main(folder: str = "docs/figures", epochs: str = "20", strategy: str = "sorted_single") -> None:
    count = int(epochs)
    quarter = count // 4
    numbers = np.arange(1, count + 1)
    loss_g, loss_d, table = {}, {}, []
    for clients in CLIENTS:
        runs = [losses(clients, seed, count, strategy) for seed in SEEDS]
        label = f"{clients} client{'s' if clients > 1 else ''}"
        loss_g[label] = numbers, np.array([[metrics["loss_g"] for metrics in run] for run in runs])
        loss_d[label] = numbers, np.array([[metrics["loss_d"] for metrics in run] for run in runs])
        last, late = loss_g[label][1][:, -quarter:], loss_d[label][1][:, -quarter:]
        table.append(
            {
                "clients": clients,
                f"G's loss, last {quarter} epochs": float(last.mean()),
                "its spread": float(last.std(axis=1).mean()),
                "D's loss": float(late.mean()),
            }
        )
        print(table[-1], flush=True)
    panels = [
        Panel("Generator", "epochs", "loss, mean over clients", loss_g),
        Panel("Discriminators", "epochs", "loss, mean over clients", loss_d),
    ]
    record("fsl-gan-3", curves_figure(panels, Path(folder) / "fsl-gan-3.png"), table, {"epochs": count})


if __name__ == "__main__":
    main(*sys.argv[1:])
