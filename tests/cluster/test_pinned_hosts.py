"""FSL-GAN's devices on hosts of their own: a device killed in the middle of a step, and where its hosts are."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import ActorUnavailableError, OutOfMemoryError

from rayfed.cluster.batch import Slot, run_batch
from rayfed.cluster.fleet import RayFleet
from rayfed.cluster.hosts import PinnedHosts
from rayfed.config import RunConfig
from rayfed.fleet.host import Host
from rayfed.fleet.protocol import Arrays, Future
from rayfed.ids import DeviceId
from rayfed.methods.context import DeviceContext
from rayfed.methods.fsl_gan.device import Device
from rayfed.methods.fsl_gan.messages import Passed, Place, Step
from rayfed.methods.spec import method_of
from rayfed.tasks.gan.workspace import GanWorkspace
from tests.methods.test_fsl_gan import HEAD, TAIL, WHOLE, WithDead, client, configure, setting, shards_of, told


class Mortal(Device):
    """Takes its host down the first time that its portion turns in the second iteration."""

    mark: Path

    def turn(self, place: Place, step: Step, *args: Any) -> Passed:
        if step.iteration == 1 and place.client == 0 and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().turn(place, step, *args)


class Dies(WithDead):
    """The same on a LocalFleet."""

    mortal = True

    def submit(self, device: DeviceId, method: str, *args: Any, cost: float = 1.0) -> Future:
        if self.mortal and method == "turn" and args[0].client == 0 and args[1].iteration == 1:
            self.dead, self.mortal = frozenset([device]), False
        return super().submit(device, method, *args, cost=cost)


@ray.remote(num_cpus=0, max_restarts=2)
class PinnedHost:
    def __init__(self, config: RunConfig, mark: Path) -> None:
        torch.set_num_threads(1)
        Mortal.mark = mark
        shards, workspace = shards_of(config), GanWorkspace(config, 1, 2)
        clients = method_of(config).topology(config).clients

        def build(device: DeviceId, state: Arrays) -> Mortal:
            return Mortal(DeviceContext(device, config, workspace, shards.of(clients[device])), state)

        self.host = Host(build, workspace.meter.take)

    def run(self, slots: list[Slot], *values: Any) -> tuple[Any, ...]:
        return run_batch(self.host, slots, values)


@pytest.fixture
def fleet(cluster: None, tmp_path: Path) -> Iterator[Any]:
    """A fleet with a host for each device of client a; the other client's lives beside one that is no victim."""
    hosts: list[Any] = []

    def make(config: RunConfig, victim: int) -> RayFleet:
        devices = method_of(config).topology(config).devices
        hosts.extend(PinnedHost.remote(config, tmp_path / "mark") for _ in range(devices - 1))
        return RayFleet(PinnedHosts(hosts, [*range(devices - 1), 0 if victim else 1]))

    yield make
    for host in hosts:
        ray.kill(host)


def wait_for(host: Any) -> None:
    """Until Ray has restarted a host; calls to one that it is restarting raise."""
    while True:
        try:
            ray.get(host.__ray_ready__.remote())
        except ActorUnavailableError:
            time.sleep(0.1)
        else:
            return


ROOM = [client("a", TAIL, HEAD, TAIL), client("b", WHOLE)]
"""Client a's two larger devices can hold the last portion, any of its devices the others."""
NO_ROOM = [client("a", HEAD, TAIL), client("b", WHOLE)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clients", "outcome"),
    [(ROOM, "begins again on"), pytest.param(NO_ROOM, "sits out", marks=pytest.mark.slow)],
)
def test_a_device_killed_in_a_step_is_replanned_around_and_the_round_completes(
    clients: list[dict[str, Any]], outcome: str, fleet: Any
) -> None:
    """The weights are those of a LocalFleet in which the device answers nothing from the same call on."""
    config = configure(clients, iterations=3, micro_batches=2)
    server, _, _ = setting(config)
    victim = server.scheduler.placements(1, [])[0].stages[-1][0]
    ray_fleet = fleet(config, victim)
    first, reports = server.round(server.init(), ray_fleet)
    ray_fleet.settle()
    (event,) = told(first)
    assert event.startswith(f"client a lost a/{victim} in batch 2: {outcome}")
    assert [report.client for report in reports] == ([0, 1] if outcome.startswith("begins") else [1])
    for host in ray_fleet._hosts._hosts:
        wait_for(host)
    second, reports = server.round(first, ray_fleet)
    ray_fleet.settle()
    assert [report.client for report in reports] == [0, 1]
    assert told(second)[0] == f"a/{victim} is back"

    local, _, _ = setting(config)
    dies = Dies(setting(config)[1]._host)
    state, _ = local.round(local.init(), dies)
    assert state.events == first.events
    dies.dead = frozenset()
    again, _ = local.round(state, dies)
    assert again.events == second.events
    for name, vector in again.arrays.items():
        assert vector.tobytes() == second.arrays[name].tobytes(), name


def test_an_error_that_names_no_actor_is_its_host_s(cluster: None, tmp_path: Path) -> None:
    """Out of memory: Ray may have restarted the host by the time that its devices are asked."""
    config = configure(NO_ROOM)
    hosts = [PinnedHost.remote(config, tmp_path / "mark") for _ in range(2)]
    pinned = PinnedHosts(hosts, [0, 1, 0])
    pinned.lost(hosts[0], OutOfMemoryError("too much"))
    assert [pinned.choose(device, 1.0) for device in range(3)] == [None, hosts[1], None]
    assert pinned.settled() == [0, 2]
    assert pinned.choose(0, 1.0) is hosts[0]


@pytest.mark.slow
def test_a_clients_devices_share_a_node_with_their_own_annotations_and_a_lost_node_ends_no_run(
    short_folder: Path,
) -> None:
    command = [sys.executable, "-m", "tests.cluster.two_nodes", str(short_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"hosts"'))
    found = json.loads(line)
    (a, strong), (also_a, weak), (b, other_strong), (also_b, other_weak) = found["hosts"]
    assert a == also_a != b == also_b
    assert strong == other_strong == {"CPU": 1.0, "memory": 2e8}
    assert weak == other_weak == {"CPU": 0.5}
    assert found["participants"] == [[0, 1], [0], [0]]
    ((round, text),) = found["events"]
    assert round == 2
    assert text.startswith("client b lost b/strong, b/weak in batch ")
    assert text.endswith(": sits out")
