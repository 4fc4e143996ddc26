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
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rayfed.cluster import prepare_environment

prepare_environment(None)

import numpy as np
import psutil

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


def memory_gb(others: Sequence[int] = ()) -> float:
    """Without the processes whose numbers are in `others`."""
    me = psutil.Process()
    total = 0
    for process in [me, *(each for each in me.children(recursive=True) if each.pid not in others)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e9


def disk_gb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def few_of_many(sizes: list[int], rounds: int) -> None:
    print("20 participants, 5 steps on 20 images each", flush=True)
    figures: dict[int, list[tuple[float, float, float]]] = {}
    for devices in sizes * REPEATS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = configure(folder, devices, 20, 5, 20)
            states = filled(folder, min(devices, STATEFUL))
            with opened(config, states, folder) as run:
                run.round()
                begun = disk_gb(folder)
                times = [run.round() for _ in range(rounds)]
                figures.setdefault(devices, []).append((statistics.median(times), memory_gb(), disk_gb(folder)))
                print(f"  {devices} devices: {figures[devices][-1][0]:.2f} s, disk {begun:.2f} GB before", flush=True)
    first = [min(values) for values in zip(*figures[sizes[0]], strict=True)]
    for devices, found in figures.items():
        seconds, memory, disk = (min(values) for values in zip(*found, strict=True))
        print(
            f"{devices:6d} devices: {seconds:6.2f} s a round ({seconds / first[0]:.2f})   "
            f"{memory:5.2f} GB memory ({memory / first[1]:.2f})   {disk:6.2f} GB disk"
        )


def bare(pipe: object, turns: int, iterations: int, batch: int) -> None:
    """One bare process: trains as often as it is told to."""
    from rayfed.models.gan import GAN
    from rayfed.models.process import set_up

    set_up()
    batches = list(np.random.default_rng(0).integers(0, 256, (iterations, batch, 1, 32, 32), np.uint8))
    gan = GAN(Model(), 1)
    gan.initialise(0)
    gan.train(batches, seed=0)
    pipe.send("ready")
    while pipe.recv():
        for _ in range(turns):
            gan.train(batches, seed=0)
        pipe.send("done")


def all_of_300(iterations: int, batch: int, rounds: int) -> None:
    devices, context, pipes, others = 300, multiprocessing.get_context("spawn"), [], []
    for _ in range(PROCESSES):
        here, there = context.Pipe()
        process = context.Process(target=bare, args=(there, devices // PROCESSES, iterations, batch), daemon=True)
        process.start()
        others.append(process.pid)
        here.recv()
        pipes.append(here)
    ours, theirs, memory = [], [], 0.0
    with (
        tempfile.TemporaryDirectory() as name,
        opened(configure(Path(name), devices, devices, iterations, batch), {}, Path(name)) as run,
    ):
        for _ in range(rounds):
            ours.append(run.round())
            memory = max(memory, memory_gb(others))
            start = time.perf_counter()
            for pipe in pipes:
                pipe.send(True)
            for pipe in pipes:
                pipe.recv()
            theirs.append(time.perf_counter() - start)
            print(f"  {ours[-1]:.1f} s, bare {theirs[-1]:.1f} s, {memory:.2f} GB", flush=True)
        disk = disk_gb(Path(name))
    for pipe in pipes:
        pipe.send(False)
    ratio = statistics.median(a / b for a, b in zip(ours[1:], theirs[1:], strict=True))
    print(
        f"300 of 300, {iterations} steps on {batch} images: slowest {max(ours):.1f} s, {memory:.2f} GB memory, ", end=""
    )
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
