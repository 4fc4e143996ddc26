"""What a round costs as devices with state of their own become more, and as all of them take part.

    python benchmarks/scale.py                     # all of it: about 15 minutes, 25 GB of disk
    python benchmarks/scale.py --only few          # 20 participants of 20, 200, 2,000 and 10,000 devices
    python benchmarks/scale.py --only all          # 300 participants of 300
    python benchmarks/scale.py --only idle         # the memory of a session of 10,000 devices that does nothing

FL-VANILLA on LSGAN with `moments: keep`: 9.2 MB of state a device. With few participants up to 2,000 devices hold
state from the start, and the participants of every round are among them. Each round is committed. Memory is the sum
of the proportional set sizes of all processes of this one's tree but for the bare ones. Where all take part, rounds
alternate with their bare training: two processes that run as many steps on as many images. Lines end with what a figure
is to the first. `scale_flower.py` is the last job in Flower's simulation.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rayfed.cluster import prepare_environment

prepare_environment(None)

import numpy as np
from beside import bare_processes, memory_gb, written_gb

from rayfed.cluster.connection import connected
from rayfed.cluster.session import RaySession
from rayfed.config import Model, Ray, RunConfig, parse
from rayfed.data.setup import prepare
from rayfed.engine.callbacks import StoreCallback
from rayfed.engine.checkpoint import checkpoint_of
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.methods.spec import method_of
from rayfed.store import Store

STATEFUL, PROCESSES, REPEATS = 2000, 2, 2
HELD, SAMPLES = 30, 6000
"""Images of a device, of those of fashion-mnist-6k."""


def configure(folder: Path, devices: int, participants: int, iterations: int, batch: int) -> RunConfig:
    """A configuration whose every device holds HELD images, drawn from all."""
    partition, rng = folder / "partition.csv", np.random.default_rng(0)
    draws = [f"{sample},{device}" for device in range(devices) for sample in rng.choice(SAMPLES, HELD, replace=False)]
    partition.write_text("\n".join(["sample,device", *draws]))
    method = {"name": "fl-vanilla", "fraction": participants / devices, "sampling": "round-robin", "moments": "keep"}
    return parse(
        {
            "method": method | {"iterations": iterations, "batch": batch},
            "devices": {"count": devices},
            "data": {"partition": f"file:{partition}"},
            "evaluation": {"every": 0},
            "resources": {"hosts": PROCESSES},
        }
    )


@dataclass
class Run:
    """A run on Ray with its store, driven round by round."""

    config: RunConfig
    folder: Path
    session: RaySession
    callback: StoreCallback
    store: Store
    seconds: list[float] = field(default_factory=list)

    def round(self) -> float:
        """One round and its commit."""
        start = time.perf_counter()
        checkpoint = self.session.round()
        self.callback.on_round(checkpoint)
        self.seconds.append(time.perf_counter() - start)
        assert checkpoint.metrics["participants"] == self.config.participants
        return self.seconds[-1]


@contextmanager
def opened(config: RunConfig, states: dict[int, StateFile], folder: Path) -> Iterator[Run]:
    store, held = Store(f"sqlite:///{folder / 'rayfed.db'}"), StateFolder(str(folder / "states"))
    with connected(Ray()):
        session = RaySession(config, prepare(config, 32), lambda capacity, scaling: None, None, held)
        store.create_run("scale", config.model_dump(mode="json"), {})
        callback = StoreCallback(store, "scale", held)
        callback.on_begin(config, ())
        first = session.start(None).commit()
        first.devices.update(states)
        store.commit("scale", first, config.store.keep)
        session.start(checkpoint_of(store.latest("scale"), method_of(config)))
        yield Run(config, folder, session, callback, store)
    store.close()


def filled(folder: Path, devices: int) -> dict[int, StateFile]:
    """A state for each device, as after a round, each unlike the others."""
    from rayfed.models.gan import GAN

    gan, states, found = GAN(Model(), 1), StateFolder(str(folder / "states")), {}
    gan.load_optimizer_state(None)
    arrays = gan.optimizer_state()
    rng = np.random.default_rng(0)
    for device in range(devices):
        drawn = {name: rng.random(len(a), np.float32) * 1e-6 if len(a) > 1 else a for name, a in arrays.items()}
        found[device] = states.write(drawn)
    return found


def disk_gb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def few_of_many(sizes: list[int], rounds: int) -> None:
    print("20 participants, 5 steps on 20 images each", flush=True)
    figures: dict[int, list[tuple[float, float, float, float]]] = {}
    for devices in sizes * REPEATS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = configure(folder, devices, 20, 5, 20)
            states = filled(folder, min(devices, STATEFUL))
            with opened(config, states, folder) as run:
                run.round()
                before = written_gb()
                seconds = statistics.median(run.round() for _ in range(rounds))
                written = (written_gb() - before) / rounds
                figures.setdefault(devices, []).append((seconds, memory_gb(), written, disk_gb(folder)))
                print(f"  {devices} devices: {seconds:.2f} s", flush=True)
    first = [min(values) for values in zip(*figures[sizes[0]], strict=True)]
    for devices, found in figures.items():
        parts = []
        for what, values, base in zip(("s", "GB memory", "GB written"), zip(*found, strict=True), first, strict=False):
            parts.append(f"{min(values):.2f} {what} ({min(values) / base:.2f})")
        print(f"{devices:6d} devices, a round: {', '.join(parts)}; {found[0][-1]:.2f} GB on the disk")


def all_of_300(iterations: int, batch: int, rounds: int) -> None:
    devices, ours, theirs, memory = 300, [], [], 0.0
    with (
        bare_processes(PROCESSES, devices // PROCESSES, iterations, batch) as bare,
        tempfile.TemporaryDirectory() as name,
        opened(configure(Path(name), devices, devices, iterations, batch), {}, Path(name)) as run,
    ):
        for _ in range(rounds):
            ours.append(run.round())
            memory = max(memory, memory_gb(bare.pids))
            theirs.append(bare.seconds())
            print(f"  {ours[-1]:.1f} s, bare {theirs[-1]:.1f} s, {memory:.2f} GB", flush=True)
        disk = disk_gb(Path(name))
    ratio = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
    what = f"300 of 300, {iterations} steps on {batch} images"
    print(f"{what}: slowest {max(ours):.1f} s, {memory:.2f} GB memory, ", end="")
    print(f"{disk:.2f} GB disk, {ratio:.2f} times its bare training")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("few", "all", "idle"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200, 2000, 10_000])
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    if given.only in (None, "idle"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with opened(configure(folder, 10_000, 20, 1, 4), {}, folder):
                print(f"an idle session of 10,000 devices: {memory_gb():.2f} GB")
    if given.only in (None, "few"):
        few_of_many(given.sizes, given.rounds)
    if given.only in (None, "all"):
        all_of_300(1, 4, 5)
        all_of_300(5, 20, 3)


if __name__ == "__main__":
    main()
