"""What the twin costs: the time to replay a round against the round itself, worst of several methods.

    python benchmarks/twin.py

Ten devices, DCGAN 32x32 of width 24, batch 32, in this process: FeGAN with 4 devices of 20 iterations a round, MD-GAN
with 20 iterations of all devices, Ren et al. with 5 steps each. The last line is the largest median share of a round.
"""

import statistics
import time

from rayfed.cluster import prepare_environment

prepare_environment(None)

from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.engine.session import LocalSession
from rayfed.engine.simulation import Simulation

ROUNDS = 3
METHODS = {
    "fegan": {"fraction": 0.4, "iterations": 20},
    "md-gan": {"iterations": 20},
    "ren": {"iterations": 5, "g_steps": 5},
}


def shares(name: str) -> list[float]:
    """The replay's share of each round, the first, in which torch warms up, left out."""
    config = parse(
        {
            "method": {"name": name, "batch": 32, **METHODS[name]},
            "data": {"partition": "iid"},
            "model": {"name": "dcgan32", "width": 24},
            "evaluation": {"every": 0},
        }
    )
    session = LocalSession(config, prepare(config, 32))
    spent = []
    advance = Simulation.advance

    def timed(self: Simulation, ledger: object) -> dict[str, float]:
        start = time.perf_counter()
        metrics = advance(self, ledger)
        spent.append(time.perf_counter() - start)
        return metrics

    Simulation.advance = timed
    session.start(None)
    rounds = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        session.round()
        rounds.append(time.perf_counter() - start)
    Simulation.advance = advance
    print(f"{name:7} round {statistics.median(rounds[1:]):6.2f} s, twin {statistics.median(spent[1:]) * 1e3:6.2f} ms")
    return [part / whole for part, whole in zip(spent[1:], rounds[1:], strict=True)]


def main() -> None:
    print(f"share {max(statistics.median(shares(name)) for name in METHODS):.5f}")


if __name__ == "__main__":
    main()
