"""A cluster on this machine that grows and shrinks: Ray's own autoscaler, with nodes that are raylets of this machine.

Each node has a loopback address of its own.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME, TAG_RAY_USER_NODE_TYPE

HEAD = "f" * 51 + "00000"
ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
COMMANDS = ("setup", "head_setup", "worker_setup", "initialization", "head_start_ray", "worker_start_ray")
SOON_S = 120


class Provider(FakeMultiNodeProvider):
    """Launches nodes as raylets of this machine."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: dict[str, float], labels: dict[str, str]
    ) -> None:
        amounts = dict(resources)
        with self.lock:
            ident, kind = self._next_hex_node_id(), tags[TAG_RAY_USER_NODE_TYPE]
            params = RayParams(
                min_worker_port=0,
                max_worker_port=0,
                dashboard_port=None,
                dashboard_agent_listen_port=0,
                num_cpus=amounts.pop("CPU", 0),
                num_gpus=amounts.pop("GPU", 0),
                memory=amounts.pop("memory", None),
                object_store_memory=amounts.pop("object_store_memory", None),
                resources=amounts,
                labels=labels,
                node_ip_address=f"127.0.0.{self._next_node_id + 1}",
                gcs_address=self._gcs_address,
                redis_address=self._gcs_address,
                env_vars={
                    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": ident,
                    "RAY_CLOUD_INSTANCE_ID": ident,
                    "RAY_NODE_TYPE_NAME": kind,
                },
            )
            node = Node(params, head=False, shutdown_at_exit=False, spawn_reaper=False)
            own = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_USER_NODE_TYPE: kind, TAG_RAY_NODE_NAME: ident}
            self._nodes[ident] = {"tags": own | tags, "node": node}


@contextmanager
def growing(folder: Path, kinds: Mapping[str, Mapping[str, Any]], idle_s: float = 6) -> Iterator[str]:
    """A head with 2 CPUs and an autoscaler that adds nodes of these types; gives the cluster's address.

    `kinds`: by name, `resources` and `max_workers`. `folder`, of a short name, holds Ray's files and logs.
    """
    port = _free_port()
    address = f"127.0.0.1:{port}"
    head = {"resources": {"CPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 0}
    types = {name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in kinds.items()}
    cluster = {
        "cluster_name": "fake",
        "max_workers": sum(kind["max_workers"] for kind in kinds.values()),
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external",
            "module": f"{__name__}.Provider",
            "head_node_id": HEAD,
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
            "launch_multiple": True,
        },
        "available_node_types": {"ray.head.default": head, **types},
        "head_node_type": "ray.head.default",
        **{f"{which}_commands": [] for which in COMMANDS},
        **{each: {} for each in ("file_mounts", "auth", "docker")},
        **{each: [] for each in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }
    (folder / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    own = {
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_NODE_TYPE_NAME": "ray.head.default",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        "RAY_TMPDIR": str(folder),
    }
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}/ray", "--num-cpus=2", "--num-gpus=0"]
    command += [
        "--include-dashboard=false",
        "--object-store-memory=150000000",
        f"--autoscaling-config={folder}/cluster.yaml",
    ]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT | own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait_for(port, process, folder)
        yield address
    finally:
        _end(folder)


@contextmanager
def joined(address: str) -> Iterator[None]:
    """This process as a driver of such a cluster."""
    ray.init(address=address, logging_level="error", log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        yield
    finally:
        ray.shutdown()


def raylets(folder: Path) -> list[psutil.Process]:
    """The raylets of such a cluster, the head's first."""
    found = [each for each in _processes(folder) if each.name() == "raylet"]
    return sorted(found, key=lambda each: each.create_time())


def address_of(raylet: psutil.Process) -> str:
    """The loopback address of a raylet's node."""
    (argument,) = (each for each in raylet.cmdline() if each.startswith("--node_ip_address="))
    return argument.partition("=")[2]


def _processes(folder: Path) -> list[psutil.Process]:
    """Those that name the folder in their command, or descend from one that does."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if f"{folder}/" in " ".join(process.cmdline()) and process.pid != os.getpid():
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    found.pop(os.getpid(), None)
    return list(found.values())


def _end(folder: Path) -> None:
    """End every process of the cluster; raylets outlive their head."""
    for _ in range(3):
        for process in _processes(folder):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.5)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0 and raylets(folder):
                return
        assert process.poll() is None, (folder / "head.log").read_text()
        time.sleep(0.5)
    raise AssertionError((folder / "head.log").read_text())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def show(**found: Any) -> None:
    """A line of JSON for the test that started this process."""
    print(json.dumps(found), flush=True)
