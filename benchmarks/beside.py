"""What benchmarks measure beside the system: bare processes that only train, and the memory of processes."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

import numpy as np
import psutil

from rayfed.config import Model


class Bare:
    """Processes that train whenever they are told to, and do nothing else: the same step, with the same allocator."""

    def __init__(self, pipes: list[Connection], pids: list[int]) -> None:
        self._pipes = pipes
        self.pids = pids

    def seconds(self) -> float:
        """How long all of them train for a round."""
        start = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(True)
        for pipe in self._pipes:
            pipe.recv()
        return time.perf_counter() - start


@contextmanager
def bare_processes(count: int, turns: int, steps: int, images: int) -> Iterator[Bare]:
    """So many processes, each of which trains `turns` devices in a round, for `steps` on so many images each."""
    context, pipes, pids = multiprocessing.get_context("spawn"), [], []
    for _ in range(count):
        here, there = context.Pipe()
        process = context.Process(target=_train, args=(there, turns, steps, images), daemon=True)
        process.start()
        assert process.pid is not None
        here.recv()
        pipes.append(here)
        pids.append(process.pid)
    yield Bare(pipes, pids)
    for pipe in pipes:
        pipe.send(False)


def _train(pipe: Connection, turns: int, steps: int, images: int) -> None:
    from rayfed.models.gan import GAN
    from rayfed.models.process import set_up

    set_up()
    batches = list(np.random.default_rng(0).integers(0, 256, (steps, images, 1, 32, 32), np.uint8))
    gan = GAN(Model(), 1)
    gan.initialise(0)
    gan.train(batches[:2], seed=0)
    pipe.send("ready")
    while pipe.recv():
        for _ in range(turns):
            gan.train(batches, seed=0)
        pipe.send("done")


def memory_gb(others: Sequence[int] = (), show: bool = False) -> float:
    """All processes of this one's tree but for `others`, pages that they share counted once."""
    sizes = {process: process.memory_full_info().pss for process in _tree() if process.pid not in others}
    for process, size in sorted(sizes.items(), key=lambda item: -item[1]) if show else ():
        print(f"  {size / 1e6:5.0f} MB  {process.cmdline()[0][-60:] if process.cmdline() else process.name()}")
    return sum(sizes.values()) / 1e9


def written_gb() -> float:
    """What the processes of this one's tree have had written to the disk so far."""
    return sum(process.io_counters().write_bytes for process in _tree()) / 1e9


def _tree() -> list[psutil.Process]:
    me = psutil.Process()
    return [each for each in (me, *me.children(recursive=True)) if each.status() != psutil.STATUS_ZOMBIE]
