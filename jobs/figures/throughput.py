"""FeGAN's figures 12, 13 and 15 from the twin: throughput against devices, the E x C grid, bandwidth at one device.

    python jobs/figures/throughput.py [FOLDER]

The paper's testbed (section 4): every node, the server too, has a Tesla P100 and a 2 Gb/s Ethernet link. LSGAN, B = 50,
whole Fashion-MNIST (60,000 images an epoch); FeGAN with E = 30 and C = 0.025, at least one device. Each kind of call is
computed once (rayfed.app.rehearsal); minutes on two cores. Writes PNGs into FOLDER (docs/figures).
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from rayfed.app.rehearsal import Known, rehearse_rounds
from rayfed.config import parse
from rayfed.data import partition
from rayfed.data.datasets import Dataset
from rayfed.data.setup import Federation
from rayfed.report.curves import Panel, curves_figure

P100_FLOPS = 9.3e12
"""Its data sheet's float32 peak."""
USED = (1.0, 0.1)
"""The share of the peak that training reaches: all, and what small networks often get."""
EPOCH = 60_000
DEVICES = (5, 10, 20, 40, 80, 120, 176)
GRID_DEVICES = 60
FRACTIONS, ITERATIONS = {"1/30": 1 / 30, "1/15": 1 / 15, "2/15": 2 / 15}, (15, 30, 60)
SECONDS = 200


def testbed(used: float) -> dict[str, Any]:
    """The twin of section 4; the latency of a switched LAN is ours (0.1 ms)."""
    node = {"flops_per_s": P100_FLOPS * used}
    links = {"up_mbps": 2000.0, "down_mbps": 2000.0, "server_up_mbps": 2000.0, "server_down_mbps": 2000.0}
    return {"devices": [node], "server": node, "network": {"kind": "wired", "latency_s": 1e-4, **links}}


def noise_federation(devices: int) -> Federation:
    """As many images as Fashion-MNIST has, of noise, spread evenly: times do not depend on what is in them."""
    images = np.random.default_rng(0).integers(0, 256, (EPOCH, 1, 32, 32), np.uint8)
    labels = np.arange(EPOCH) % 10
    data = Dataset("noise", images, labels, images[:10], labels[:10], tuple("0123456789"))
    parts = partition.iid(labels, devices, np.random.default_rng(0))
    return Federation(data, parts, partition.class_counts(labels, parts, 10))


KNOWN: dict[str, Known] = {}


def round_of(method: dict[str, Any], devices: int, used: float) -> dict[str, float]:
    """The metrics of one round of a method."""
    config = parse({"method": {"batch": 50, **method}, "devices": {"count": devices}, "twin": testbed(used)})
    known = KNOWN.setdefault(config.method.name, {})
    return rehearse_rounds(config, noise_federation(devices), 1, known)[0]


def epochs_per_s(metrics: dict[str, float]) -> float:
    return metrics["images"] / EPOCH / metrics["sim_seconds"]


def fegan(devices: int, used: float, fraction: float = 0.025, iterations: int = 30) -> dict[str, float]:
    share = max(fraction, 1 / devices)
    return round_of({"name": "fegan", "fraction": share, "iterations": iterations}, devices, used)


def md_gan(devices: int, used: float) -> dict[str, float]:
    return round_of({"name": "md-gan", "iterations": 1, "swap_epochs": 0}, devices, used)


def released_md_gan(devices: int, used: float) -> dict[str, float]:
    """The md-gan.py of FeGAN's released code on the wire: G and D to every device and back in each iteration."""
    return round_of({"name": "fl-vanilla", "iterations": 1, "fraction": 1.0}, devices, used)


def figure_12(folder: Path) -> None:
    """Throughput against devices."""
    table, panels = [], []
    for used in USED:
        methods = {"MD-GAN": md_gan, "MD-GAN as released": released_md_gan, "FeGAN": fegan}
        found = {label: [method(n, used) for n in DEVICES] for label, method in methods.items()}
        curves = {label: (DEVICES, np.array([epochs_per_s(m) for m in rounds])) for label, rounds in found.items()}
        panels.append(Panel(f"{used:.0%} of a P100's peak", "devices", "epochs/s", curves))
        for i, n in enumerate(DEVICES):
            rates = {label: float(values[i]) for label, (_, values) in curves.items()}
            down = {f"{label} MB/round": rounds[i]["bytes_down"] / 1e6 for label, rounds in found.items()}
            ratios = {f"FeGAN/{label}": rates["FeGAN"] / rates[label] for label in list(methods)[:2]}
            table.append({"of peak": used, "devices": n, **rates, **ratios, **down})
    figure = curves_figure(panels, folder / "fegan-12.png")
    record("fegan-12", figure, table, {"flops_per_s": P100_FLOPS, "used": USED, "C": 0.025, "E": 30, "B": 50})


def figure_13(folder: Path) -> None:
    """The E x C grid at 60 devices, as throughput relative to MD-GAN's."""
    table, panels = [], []
    for used in USED:
        base = epochs_per_s(md_gan(GRID_DEVICES, used))
        curves = {}
        for label, fraction in FRACTIONS.items():
            gains = [epochs_per_s(fegan(GRID_DEVICES, used, fraction, e)) / base for e in ITERATIONS]
            curves[f"C = {label}"] = ITERATIONS, np.array(gains)
            table += [
                {"of peak": used, "C": label, "E": e, "FeGAN/MD-GAN": gain}
                for e, gain in zip(ITERATIONS, gains, strict=True)
            ]
        panels.append(Panel(f"{used:.0%} of a P100's peak", "E", "epochs/s, MD-GAN = 1", curves))
    record("fegan-13", curves_figure(panels, folder / "fegan-13.png"), table, {"devices": GRID_DEVICES, "B": 50})


def figure_15(folder: Path) -> None:
    """Bytes over one device's link in 200 simulated seconds at 80 devices, the expectation over devices."""
    table, curves = [], {}
    times = np.arange(0, SECONDS + 1, 10)
    for used in USED:
        for label, metrics, share in (
            ("MD-GAN", md_gan(80, used), 1.0),
            ("FeGAN", fegan(80, used), math.floor(0.025 * 80) / 80),
        ):
            rounds = SECONDS / metrics["sim_seconds"]
            total = rounds * share * metrics["bytes_device_max"] / 1e9
            if used == USED[0]:
                curves[label] = times, total * times / SECONDS
            table.append(
                {"of peak": used, "method": label, "rounds": rounds, "times drawn": rounds * share, "GB": total}
            )
    panel = Panel("One device's link, 80 devices, P100 at its peak", "simulated seconds", "GB", curves)
    record("fegan-15", curves_figure([panel], folder / "fegan-15.png"), table, {"devices": 80, "seconds": SECONDS})


def main(folder: str = "docs/figures") -> None:
    for figure in (figure_12, figure_13, figure_15):
        print(f"\n{figure.__doc__}")
        figure(Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
