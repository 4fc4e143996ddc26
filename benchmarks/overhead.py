"""The whole system against two bare processes that run the same training step, alternating, as a ratio.

    python benchmarks/overhead.py

The system: FeGAN on a private Ray with two device hosts, LSGAN, E = 30, B = 50, four participants a round, every
round committed and tracked. Bare: two processes, each running `GAN.train` on batches that are there already, as
many iterations as the system's round has. The last line is the ratio of images per second, the median over pairs.
"""

import statistics
import tempfile
import time
from pathlib import Path

from rayfed.cluster import prepare_environment

prepare_environment(None)

from beside import bare_processes

from rayfed.cluster.connection import connected
from rayfed.cluster.session import RaySession
from rayfed.config import Tracking, parse
from rayfed.data.setup import prepare
from rayfed.engine.callbacks import StoreCallback
from rayfed.fleet.states import StateFolder
from rayfed.store import Store
from rayfed.tracking import Tracker

PROCESSES, PARTICIPANTS, ITERATIONS, BATCH, PAIRS = 2, 4, 30, 50, 6
IMAGES = PARTICIPANTS * ITERATIONS * BATCH


def main() -> None:
    config = parse(
        {
            "method": {"name": "fegan", "fraction": 0.4, "iterations": ITERATIONS, "batch": BATCH},
            "devices": {"count": 10},
            "data": {"partition": "iid"},
            "evaluation": {"every": 0},
            "resources": {"hosts": PROCESSES},
        }
    )
    ratios = []
    with (
        bare_processes(PROCESSES, PARTICIPANTS // PROCESSES, ITERATIONS, BATCH) as bare,
        tempfile.TemporaryDirectory() as name,
        connected(config.ray),
    ):
        folder = Path(name)
        states = StateFolder(str(folder / "states"))
        session = RaySession(config, prepare(config, 32), lambda capacity, scaling: None, states=states)
        store = Store(f"sqlite:///{folder / 'rayfed.db'}")
        tracker = Tracker(Tracking(), f"sqlite:///{folder / 'mlflow.db'}", str(folder), "overhead", {}, {})
        store.create_run("overhead", config.model_dump(mode="json"), {})
        callback = StoreCallback(store, "overhead", states)
        callback.on_begin(config, ())
        callback.on_start(session.start(None))
        for pair in range(PAIRS + 1):
            start = time.perf_counter()
            checkpoint = session.round()
            callback.on_round(checkpoint)
            tracker.log(checkpoint.round, checkpoint.metrics)
            ours = time.perf_counter() - start
            theirs = bare.seconds()
            assert checkpoint.metrics["images"] == IMAGES
            if pair:  # the first warms up
                ratios.append(theirs / ours)
                rates = f"rayfed {IMAGES / ours:.1f} images/s   bare {IMAGES / theirs:.1f}"
                print(f"{rates}   ratio {ratios[-1]:.3f}", flush=True)
        tracker.close("FINISHED")
        store.close()
    print(f"ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
