"""Hosts that come and go: whatever happens to them, the weights are those of one process."""

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
from ray.util.placement_group import placement_group_table

from rayfed.cluster.pool import ActorPool
from rayfed.cluster.session import RaySession
from rayfed.config import RunConfig, parse
from rayfed.data.setup import Federation, prepare
from rayfed.engine.session import LocalSession
from rayfed.errors import CapacityError
from rayfed.fleet.states import StateFolder


def configured(hosts: Any, cpus: float = 0.5, gpus: float = 0.0) -> RunConfig:
    return parse(
        {
            "method": {"name": "fegan", "fraction": 0.5, "batch": 8, "iterations": 2},
            "devices": {"count": 8},
            "model": {"name": "dcgan28", "width": 4},
            "resources": {"hosts": hosts, "device_host": {"num_cpus": cpus, "num_gpus": gpus}},
            "evaluation": {"every": 0},
            "ray": {"wait_s": 60},
        }
    )


@pytest.fixture(scope="module")
def federation() -> Federation:
    return prepare(configured(2), 28)


@pytest.fixture
def pair(cluster: None, federation: Federation, tmp_path: Path) -> Iterator[Any]:
    """A session of actors and one of this process, and what the first said."""
    made = []

    def make(config: RunConfig) -> tuple[RaySession, LocalSession, list[str]]:
        said: list[str] = []
        states = StateFolder(str(tmp_path / "ray"))
        remote = RaySession(config, federation, lambda capacity, scaling: None, None, states, said.append)
        made.append(remote)
        local = LocalSession(config, federation, StateFolder(str(tmp_path / "local")))
        for session in (remote, local):
            session.start(None)
        return remote, local, said

    yield make
    for session in made:
        session.close()
    for _ in range(50):
        if all(group["state"] == "REMOVED" for group in placement_group_table().values()):
            return
        time.sleep(0.1)
    raise AssertionError("a placement group is left")


def same(remote: RaySession, local: LocalSession) -> None:
    """A round of each: same weights, same device states."""
    one, other = remote.round(), local.round()
    for name, vector in other.state.arrays.items():
        assert one.state.arrays[name].tobytes() == vector.tobytes(), name
    assert one.devices == other.devices


def kill(actor: Any) -> None:
    """As the system would: the process is gone."""
    pid = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGKILL)


def used(remote: RaySession) -> int:
    """The hosts to which the server sends calls."""
    return ray.get(remote._group.server.__ray_call__.remote(lambda server: len(server._hosts._hosts)))


def but_for_slow_starts(said: list[str]) -> list[str]:
    """Without what a busy machine makes a run say while its actors start."""
    return [line for line in said if not line.startswith("not all actors have started")]


def test_a_dead_host_is_replaced_and_the_round_computed_again(pair: Any) -> None:
    remote, local, said = pair(configured(2))
    same(remote, local)
    kill(remote._hosts[0])
    same(remote, local)
    [told] = but_for_slow_starts(said)
    assert told.startswith("round 2 is computed again on 1 device host: ")
    remote._elastic.wait(2, time.monotonic() + 60)
    same(remote, local)
    assert len(remote._hosts) == used(remote) == 2


@pytest.mark.slow
def test_a_dead_server_and_a_dead_scheduler_are_replaced_too(pair: Any) -> None:
    remote, local, said = pair(configured(1))
    same(remote, local)
    kill(remote._group.server)
    same(remote, local)
    kill(remote._scheduler)
    same(remote, local)
    assert [line.split(" is ")[0] for line in but_for_slow_starts(said)] == ["round 2", "round 3"]


@pytest.mark.slow
def test_with_all_hosts_dead_the_run_waits_for_another(pair: Any) -> None:
    remote, local, said = pair(configured(1))
    kill(remote._hosts[0])
    same(remote, local)
    [told] = but_for_slow_starts(said)
    assert told.startswith("round 1 is computed again on 1 device host: ")


@pytest.mark.slow
def test_a_range_takes_what_there_is_room_for_and_more_when_there_is_more(pair: Any) -> None:
    """4 CPUs: beside an actor with three there is room for one host of 1 CPU; when it ends, for four."""

    @ray.remote(num_cpus=3)
    class Tenant:
        def ready(self) -> None: ...

    tenant = Tenant.remote()
    ray.get(tenant.ready.remote())
    remote, local, _ = pair(configured({"min": 1, "max": 3}, cpus=1))
    same(remote, local)
    assert len(remote._hosts) == 1
    ray.kill(tenant)
    remote._elastic.wait(3, time.monotonic() + 60)
    same(remote, local)
    assert len(remote._hosts) == used(remote) == 3


def test_a_run_that_finds_no_room_ends_and_reserves_nothing(cluster: None, federation: Federation) -> None:
    """Two hosts of 3 CPUs each never fit 4 CPUs at once, though either would."""
    config = configured(2, cpus=3)
    with pytest.raises(CapacityError, match="no room for 1 device_host at 3 CPU each"):
        RaySession(config, federation, lambda capacity, scaling: None)

    @ray.remote(num_cpus=3)
    class Tenant:
        def ready(self) -> None: ...

    tenant = Tenant.remote()
    ray.get(tenant.ready.remote())
    busy = config.model_copy(update={"ray": config.ray.model_copy(update={"wait_s": 3.0})})
    busy = busy.model_copy(update={"resources": configured(2, cpus=1).resources})
    with pytest.raises(CapacityError, match=r"^ray\.wait_s = 3: 2 of 2 device hosts have not started; the cluster may"):
        RaySession(busy, federation, lambda capacity, scaling: None)
    ray.kill(tenant)
    assert all(group["state"] == "REMOVED" for group in placement_group_table().values())


@pytest.mark.slow
def test_two_runs_that_need_all_there_is_run_one_after_the_other(cluster: None, federation: Federation) -> None:
    """Each needs three of four CPUs; neither gets a half of it and waits for the other's for ever."""
    config = configured(3, cpus=1)
    first = RaySession(config, federation, lambda capacity, scaling: None)
    blocked = config.model_copy(update={"ray": config.ray.model_copy(update={"wait_s": 2.0})})
    with pytest.raises(CapacityError, match="3 of 3 device hosts have not started"):
        RaySession(blocked, federation, lambda capacity, scaling: None)
    first.close()
    second = RaySession(config, federation, lambda capacity, scaling: None)
    second.start(None)
    assert second.round().round == 1
    second.close()


@pytest.mark.slow
def test_a_share_of_a_gpu_that_torch_cannot_use_is_told_of(pair: Any) -> None:
    remote, local, said = pair(configured(2, gpus=0.5))
    same(remote, local)
    assert said == ["torch finds no GPU on 2 device hosts with a share of one: training on CPUs"]


@pytest.mark.slow
def test_a_pool_keeps_a_group_for_the_next_run(cluster: None, federation: Federation) -> None:
    pool = ActorPool()
    first = RaySession(configured(2), federation, lambda capacity, scaling: None, pool)
    hosts = set(first._hosts)
    kill(first._hosts[0])
    first.close()
    second = RaySession(configured(2), federation, lambda capacity, scaling: None, pool)
    assert len(set(second._hosts) & hosts) == 1
    second.start(None)
    assert second.round().round == 1
    second.end()


@pytest.mark.slow
def test_on_a_cluster_that_grows_a_lost_node_is_replaced_and_at_the_end_none_is_left(
    short_folder: Path,
) -> None:
    """Six quarters of a GPU are two nodes; see growing_run.py."""
    found = script("tests.cluster.growing_run", short_folder)
    assert found["scaling"] is True
    assert (found["before"], found["placed"], found["after"]) == (0, [2, 4], 0)
    assert found["same"] == [True] * 12
    assert found["hosts"][:2] == [6, 6]
    assert found["hosts"][2] in (2, 4)
    assert (found["hosts"][-1], found["others"][-1]) == (6, 1)
    assert any(line.startswith("round 3 is computed again on ") for line in found["said"])


@pytest.mark.slow
def test_a_node_that_announces_its_end_gets_no_more_calls_and_what_no_type_holds_is_refused(
    short_folder: Path,
) -> None:
    """See draining_run.py."""
    found = script("tests.cluster.draining_run", short_folder)
    assert found["refused"].startswith("resources.device_host: no type of node in the cluster's file can hold ")
    assert found["refused_after"] < 60
    assert found["same"] == [True] * 6
    assert found["on_draining"] == [1, 1, 0, 0, 0, 0]
    assert found["hosts"][-1] >= 1


def script(module: str, folder: Path) -> dict[str, Any]:
    """What a script that makes a cluster of its own printed, as one document."""
    open_to_all = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    command = [sys.executable, "-m", module, str(folder)]
    done = subprocess.run(command, env=open_to_all, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"'):
            found |= json.loads(line)
    return found
