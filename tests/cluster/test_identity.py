"""The central identity: LocalFleet and RayFleet end with the same weights, bit for bit, whoever hosts a device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from rayfed.cluster.batch import Slot, run_batch
from rayfed.cluster.fleet import RayFleet
from rayfed.cluster.hosts import PooledHosts
from rayfed.cluster.pool import ActorPool
from rayfed.cluster.session import RaySession
from rayfed.config import RunConfig, parse, with_overrides
from rayfed.data.population import Population
from rayfed.data.setup import Federation, prepare
from rayfed.data.shard import Shards
from rayfed.engine.checkpoint import Checkpoint
from rayfed.engine.session import LocalSession
from rayfed.engine.trainer import Trainer, device_host
from rayfed.fleet.host import Host as DeviceHost
from rayfed.fleet.local import LocalFleet
from rayfed.fleet.protocol import Fleet
from rayfed.fleet.states import StateFile, StateFolder
from rayfed.methods.spec import method_of

ROUNDS = 3
TRAINING = {"batch": 8, "iterations": 2}
CLIENTS = [
    {"name": f"{k}", "devices": [{"name": f"{j}", "capacity": 1e6, "time_factor": 1.0 + j} for j in range(4)]}
    for k in range(8)
]
"""LSGAN's discriminator has four portions: one for each device."""
METHODS: dict[str, dict[str, Any]] = {
    "fegan s=1 w=1": {"name": "fegan", "sampling": "balanced", "weighting": "kl"},
    "fegan s=1 w=0": {"name": "fegan", "sampling": "balanced", "weighting": "uniform"},
    "fegan s=0 w=1": {"name": "fegan", "sampling": "random", "weighting": "kl"},
    "fegan s=0 w=0": {"name": "fegan", "sampling": "random", "weighting": "uniform"},
    "fl-vanilla": {"name": "fl-vanilla"},
    "fedgan": {"name": "fedgan"},
    "centralized": {"name": "centralized"},
    "md-gan k=1": {"name": "md-gan", "batches": 1, "swap_epochs": 0},
    "md-gan k=log N": {"name": "md-gan", "d_steps": 2, "swap_epochs": 0.02},
    "f2u": {"name": "f2u"},
    "f2a": {"name": "f2a", "forgiveness": 5.0},
    "asyn-dgan": {"name": "asyn-dgan"},
    "fsl-gan": {"name": "fsl-gan", "strategy": "sorted_single", "clients": CLIENTS},
    "ren serial": {"name": "ren", "schedule": "serial", "g_steps": 2, "sampling": "round-robin"},
    "ren parallel": {"name": "ren", "schedule": "parallel", "g_steps": 3, "sampling": "proportional-fair"},
}


def configure(label: str, optimizer_state: str = "float32", **more: Any) -> RunConfig:
    method = METHODS[label] | TRAINING | {"optimizer_state": optimizer_state}
    if label.startswith(("fe", "fl", "ren")):
        method["fraction"] = 0.5
    return parse(
        {
            "seed": 5,
            "rounds": ROUNDS,
            "method": method,
            "devices": {"count": 8},
            "evaluation": {"every": 0},
            "resources": {"device_host": {"num_cpus": 0.5}},
        }
        | more
    )


@pytest.fixture(scope="module")
def federation() -> Federation:
    return prepare(configure("fegan s=1 w=1"), 32)


@ray.remote(num_cpus=0)
class Host:
    """A DeviceHost that can be told to serve another method, which saves starting one per method."""

    def __init__(self, population: Population, images: np.ndarray, labels: np.ndarray, parts: list[np.ndarray]) -> None:
        torch.set_num_threads(1)
        self.population, self.data = population, (images, labels, parts)

    def use(self, config: RunConfig) -> None:
        self.host = device_host(config, self.population, Shards(*self.data, self.population.classes, config.seed))

    def ready(self) -> None: ...

    def run(self, slots: list[Slot], *values: Any) -> tuple[Any, ...]:
        return run_batch(self.host, slots, values)


@pytest.fixture(scope="module")
def hosts(cluster: None, federation: Federation) -> Iterator[list[Any]]:
    data = [ray.put(each) for each in data_of(federation)]
    hosts = [Host.remote(federation.population, *data) for _ in range(3)]
    yield hosts
    for host in hosts:
        ray.kill(host)


def train(config: RunConfig, federation: Federation, fleet: Fleet) -> Checkpoint:
    population = federation.population
    trainer = Trainer(config, population, fleet, method_of(config).scheduler(config, population))
    trainer.start(None)
    for _ in range(ROUNDS):
        checkpoint = trainer.round()
    return checkpoint


def assert_same_bits(one: Checkpoint, other: Checkpoint) -> None:
    for name, vector in one.state.arrays.items():
        assert vector.tobytes() == other.state.arrays[name].tobytes(), name


IN_A_CELL = {"twin": {"network": {"kind": "cell"}, "devices": [{"jitter": 0.2}, {"dropout": 0.3}]}}
OFTEN = ("fegan s=1 w=1", "md-gan k=log N", "ren parallel")
"""The others share their code with these; they are slow together."""
ALL = [label if label in OFTEN else pytest.param(label, marks=pytest.mark.slow) for label in METHODS]


@pytest.mark.parametrize("label", ALL)
def test_local_and_ray_fleets_end_with_the_same_weights(label: str, federation: Federation, hosts: list[Any]) -> None:
    config = configure(label)
    local = train(config, federation, LocalFleet(host_of(config, federation)))
    ray.get([host.use.remote(config) for host in hosts])
    assert np.isfinite(local.state.arrays["generator"]).all()
    for count in (1, 2, 3):
        remote = train(config, federation, RayFleet(PooledHosts(hosts[:count])))
        assert_same_bits(local, remote)
        for device, state in local.devices.items():
            for name, values in ray.get(remote.devices[device]).items():
                np.testing.assert_array_equal(values, state[name])


@pytest.mark.parametrize(
    ("label", "more"),
    [
        pytest.param("fegan s=1 w=1", {}, marks=pytest.mark.slow),
        pytest.param(
            "fegan s=1 w=1",
            {"wire": "int8", "devices": {"count": 8, "weak_fraction": 0.5}},
            marks=pytest.mark.slow,
        ),
        pytest.param("centralized", {}, marks=pytest.mark.slow),
        pytest.param("md-gan k=log N", {"optimizer_state": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param("fegan s=1 w=1", {"optimizer_state": "bfloat16"}, marks=pytest.mark.slow),
        pytest.param(
            "fsl-gan", {"twin": {"network": {"kind": "lan"}, "devices": [{"dropout": 0.05}]}}, marks=pytest.mark.slow
        ),
        pytest.param("ren serial", IN_A_CELL, marks=pytest.mark.slow),
    ],
)
def test_a_whole_session_of_actors_equals_the_local_one(
    label: str, more: dict[str, Any], federation: Federation, cluster: None, tmp_path: Path
) -> None:
    """GeneratorServer and Scheduler as actors too; measured times aside, every metric is the same, and so are the files
    of the devices' states, which are named by their content."""
    config = configure(label, resources={"hosts": 2, "device_host": {"num_cpus": 0.5}}, **more)
    if "wire" in more:
        config = with_overrides(config, ["method.load=linear", "method.moments=fresh"])
    here, there = (StateFolder(str(tmp_path / name), config.method.narrowed) for name in ("here", "there"))
    sessions = (
        LocalSession(config, federation, here),
        RaySession(config, federation, lambda capacity, scaling: None, states=there),
    )
    courses = []
    for session in sessions:
        session.start(None)
        courses.append([session.round() for _ in range(ROUNDS)])
    sessions[1].close()
    ends = [rounds[-1] for rounds in courses]
    assert_same_bits(*ends)
    local, remote = ({**checkpoint.metrics, "round_seconds": 0} for checkpoint in ends)
    assert local == remote
    commits = [checkpoint.commit() for checkpoint in ends]
    assert commits[0].facts == commits[1].facts
    for name, values in commits[0].tables.items():
        assert values.tobytes() == commits[1].tables[name].tobytes(), name
    for one, other in zip(*courses, strict=True):
        assert one.devices == other.devices
    assert all(isinstance(state, StateFile) for state in ends[0].devices.values())
    assert any(course.devices for course in courses[0]) == config.method.keeps_optimizer_state
    assert [each.events for each in courses[0]] == [each.events for each in courses[1]]


@pytest.mark.slow
def test_actors_that_go_from_run_to_run_train_what_new_ones_would(federation: Federation, cluster: None) -> None:
    """Three runs of unlike methods and numbers of hosts on one pool; then one whose hosts ask for more."""
    pool, seen = ActorPool(), list[set[str]]()
    for label, hosts, cpus in (
        ("fegan s=1 w=1", 2, 0.5),
        ("md-gan k=log N", 1, 0.5),
        ("fl-vanilla", 2, 0.5),
        ("f2a", 2, 1),
    ):
        config = configure(label, resources={"hosts": hosts, "device_host": {"num_cpus": cpus}}, seed=len(seen))
        local = LocalSession(config, federation)
        remote = RaySession(config, federation, lambda capacity, scaling: None, pool)
        for session in (local, remote):
            session.start(None)
        seen.append({actor._actor_id.hex() for actor in (*remote._hosts, remote._group.server)})
        for _ in range(2):
            assert_same_bits(local.round(), remote.round())
        remote.close()
    remote.end()
    first, second, third, other = seen
    assert second < first == third
    assert not other & first


def host_of(config: RunConfig, federation: Federation) -> DeviceHost:
    return device_host(config, federation.population, federation.shards(config.seed))


def data_of(federation: Federation) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    return federation.dataset.train_images, federation.dataset.train_labels, federation.parts
