"""The job of scale.py where all devices take part, 300 of 300, in the simulation of Flower (Beutel et al. 2020).

    python benchmarks/scale_flower.py                        # 1 step on 4 images each: about 2 minutes, 10 GB of memory
    python benchmarks/scale_flower.py --steps 5 --images 20

FL-VANILLA on LSGAN with rayfed's networks and training step, so that only the framework differs: FedAvg with the
plain mean, Adam's moments kept in each client's `context.state`, two workers of one CPU each. A round lasts from one
aggregated round to the next; the first, in which the workers start, is not among the slowest. Rounds alternate with
their bare training as in scale.py, and memory is measured as there. Flower keeps all of it in memory: no disk.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterable
from functools import cache
from typing import Any

from rayfed.cluster import prepare_environment

prepare_environment(None)
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
from beside import Bare, bare_processes, memory_gb

from rayfed.config import Model
from rayfed.models.gan import GAN
from rayfed.models.process import set_up

try:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation
except ImportError:
    sys.exit(
        "scale_flower: Flower is not installed; it pins its own Ray, so give it an environment of its own: "
        "python -m venv flower && flower/bin/pip install . 'flwr[simulation]'"
    )

WORKERS = 2
BACKEND = {"init_args": {"num_cpus": WORKERS}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}

client = ClientApp()


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def arrays_of(record: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in record.items()}


@cache
def workspace() -> GAN:
    """The networks of this worker, which all its clients train in."""
    set_up()
    return GAN(Model(), 1)


def draw_images(seed: int, steps: int, images: int) -> list[np.ndarray]:
    """A client's batches, uint8 [steps, images, 1, 32, 32]."""
    return list(np.random.default_rng(seed).integers(0, 256, (steps, images, 1, 32, 32), np.uint8))


@client.train()
def train(message: Message, context: Context) -> Message:
    """A client's round: the server's models, its own moments, some steps."""
    gan, partition = workspace(), context.node_config["partition-id"]
    given: Any = message.content["config"]
    gan.load_models(arrays_of(message.content["arrays"]))
    gan.load_optimizer_state(arrays_of(context.state["moments"]) if "moments" in context.state else None)
    loss_g, loss_d = gan.train(draw_images(partition, given["steps"], given["images"]), given["server-round"])
    context.state["moments"] = record(gan.optimizer_state())
    metrics = MetricRecord({"num-examples": 1, "loss_g": loss_g, "loss_d": loss_d})
    return Message(RecordDict({"arrays": record(gan.models()), "metrics": metrics}), reply_to=message)


class Measured(FedAvg):
    """FedAvg over all clients; after each aggregated round, its memory and its bare training."""

    def __init__(self, clients: int, bare: Bare) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
        self.clients, self.bare = clients, bare
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.memory = 0.0
        self.begun = time.perf_counter()

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """The plain mean of the replies of all clients."""
        replies = list(replies)
        answered = sum(not reply.has_error() for reply in replies)
        assert answered == self.clients, f"{answered} of {self.clients} clients answered in round {server_round}"
        found = super().aggregate_train(server_round, replies)
        self.ours.append(time.perf_counter() - self.begun)
        self.memory = max(self.memory, memory_gb(self.bare.pids))
        self.theirs.append(self.bare.seconds())
        print(f"  {self.ours[-1]:.1f} s, bare {self.theirs[-1]:.1f} s, {self.memory:.2f} GB", flush=True)
        self.begun = time.perf_counter()
        return found


def simulate(clients: int, rounds: int, steps: int, images: int) -> None:
    # By name, as the workers import it: what they cache lasts for all their clients.
    from scale_flower import client

    server = ServerApp()
    with bare_processes(WORKERS, clients // WORKERS, steps, images) as bare:
        measured = Measured(clients, bare)

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            gan = GAN(Model(), 1)
            gan.initialise(0)
            config = ConfigRecord({"steps": steps, "images": images})
            measured.start(grid, record(gan.models()), rounds, train_config=config)

        run_simulation(server, client, clients, backend_config=BACKEND)
    ours, theirs = measured.ours[1:], measured.theirs[1:]
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{clients} of {clients}, {steps} steps on {images} images: slowest {max(ours):.1f} s, ", end="")
    print(f"{measured.memory:.2f} GB memory, {ratio:.2f} times its bare training")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--images", type=int, default=4)
    given = parser.parse_args()
    if given.rounds < 2 or given.clients < WORKERS or given.clients % WORKERS:
        parser.error(f"needs 2 rounds or more, and clients for {WORKERS} workers to share equally")
    simulate(given.clients, given.rounds, given.steps, given.images)


if __name__ == "__main__":
    main()
