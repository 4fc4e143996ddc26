"""What a round costs when the devices do nothing: 1,000 devices, a 3 MB model, no commit, no tracking.

    python benchmarks/rounds.py

The server half, scheduler and fleet are FeGAN's own, on two device hosts; a device replies with the models it was
sent. Prints the median milliseconds of a round of 10 and of 100 participants, then the memory of a whole real
session (all actors, Ray itself) of 1,000 devices, as the sum of its processes' proportional set sizes.
"""

import statistics
import time

from rayfed.cluster import prepare_environment

prepare_environment(None)

import numpy as np
import ray
from beside import memory_gb

from rayfed.cluster.batch import run_batch
from rayfed.cluster.connection import connected
from rayfed.cluster.fleet import RayFleet
from rayfed.cluster.hosts import PooledHosts
from rayfed.cluster.session import RaySession
from rayfed.config import Ray, RunConfig, parse
from rayfed.data.population import Population
from rayfed.data.setup import prepare
from rayfed.engine.simulation import Simulation
from rayfed.fleet.codec import Packed
from rayfed.fleet.host import Host
from rayfed.methods.context import ServerContext
from rayfed.methods.exchange import Update
from rayfed.methods.spec import method_of
from rayfed.scheduling.load import Load

DEVICES, HOSTS, ROUNDS = 1000, 2, 30


class Idle:
    """A device half that sends back what it was sent."""

    def __init__(self, number: int, state: dict) -> None:
        self.number, self.state = number, state

    def train(self, models: Packed, load: Load, round: int) -> Update:
        return Update(self.number, models, load, {"loss_g": 0.0, "loss_d": 0.0})


@ray.remote(num_cpus=1)
class IdleHost:
    def __init__(self) -> None:
        self.host = Host(Idle)

    def ready(self) -> None: ...

    def run(self, slots, *values):
        return run_batch(self.host, slots, values)


def configure(participants: int) -> RunConfig:
    return parse(
        {
            "method": {"name": "fegan", "fraction": participants / DEVICES, "batch": 4, "iterations": 1},
            "devices": {"count": DEVICES},
            "data": {"max_samples": 600},
            "model": {"name": "dcgan32", "width": 40},
            "evaluation": {"every": 0},
            "resources": {"hosts": HOSTS},
        }
    )


def milliseconds(participants: int, hosts: list) -> float:
    config = configure(participants)
    counts = np.random.default_rng(0).integers(0, 50, (DEVICES, 10))
    totals = counts.sum(axis=0)
    spec, population = method_of(config), Population(1, counts, totals, totals)
    fleet, simulation = RayFleet(PooledHosts(hosts)), Simulation(config)
    workspace = spec.task.workspace(config, population)
    server = spec.server_half()(ServerContext(config, workspace, spec.scheduler(config, population)))
    state, times = server.init(), []
    print(f"model {workspace.codec.length * 4 / 1e6:.2f} MB, {participants} participants of {DEVICES}", flush=True)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        state, updates = server.round(state, fleet)
        simulation.advance(fleet.settle())
        times.append((time.perf_counter() - start) * 1e3)
        assert len(updates) == participants
    print(f"  min {min(times):.0f}  median {statistics.median(times):.0f}  max {max(times):.0f} ms", flush=True)
    return statistics.median(times)


def session_memory() -> float:
    config = configure(10)
    session = RaySession(config, prepare(config, 32), lambda capacity, scaling: None)
    session.start(None)
    for _ in range(3):
        session.round()
    return memory_gb(show=True)


def main() -> None:
    with connected(Ray()):
        hosts = [IdleHost.remote() for _ in range(HOSTS)]
        ray.get([host.ready.remote() for host in hosts])
        ten, hundred = milliseconds(10, hosts), milliseconds(100, hosts)
        for host in hosts:
            ray.kill(host)
    with connected(Ray()):
        memory = session_memory()
    print(f"10 participants {ten:.0f} ms (at most 40), 100 participants {hundred:.0f} ms (at most 100), ", end="")
    print(f"1,000 devices {memory:.2f} GB (at most 3)")


if __name__ == "__main__":
    main()
