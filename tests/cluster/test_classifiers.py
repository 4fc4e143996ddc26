"""The classification methods on Ray train what they train in one process, bit for bit."""

from pathlib import Path
from typing import Any

import pytest

from rayfed.cluster.session import RaySession
from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.engine.session import LocalSession
from rayfed.fleet.states import StateFolder

METHODS: dict[str, dict[str, Any]] = {
    "split-learning": {},
    "splitfed": {"wire": "int8"},
    "fedavg": {},
    "iotsl": {"generator_rounds": 1, "generator_steps": 2, "generator_batch": 4, "generator_width": 4}
    | {"pretraining_rounds": 1, "privacy": {"sigma": 40.0}},
}


@pytest.mark.parametrize(
    "name", [name if name == "iotsl" else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_a_session_of_actors_equals_the_local_one(name: str, cluster: None, tmp_path: Path) -> None:
    method = METHODS[name] | {"name": name, "batch": 8, "iterations": 3}
    config = parse(
        {
            "seed": 4,
            "rounds": 4,
            "wire": method.pop("wire", "float32"),
            "method": method,
            "devices": {"count": 4},
            "data": {"partition": "fegan", "max_class": 9, "max_samples": 12},
            "model": {"name": "cnn5", "width": 4},
            "evaluation": {"every": 0},
            "resources": {"hosts": 2, "device_host": {"num_cpus": 0.5}},
        }
    )
    federation = prepare(config, 28)
    here, there = (StateFolder(str(tmp_path / folder)) for folder in ("here", "there"))
    local = LocalSession(config, federation, here)
    remote = RaySession(config, federation, lambda capacity, scaling: None, states=there)
    for session in (local, remote):
        session.start(None)
    for _ in range(4):
        one, other = local.round(), remote.round()
        assert one.state.arrays.keys() == other.state.arrays.keys()
        for key, vector in one.state.arrays.items():
            assert vector.tobytes() == other.state.arrays[key].tobytes(), key
        assert one.metrics | {"round_seconds": 0} == other.metrics | {"round_seconds": 0}
        assert (one.devices, one.events) == (other.devices, other.events)
    remote.close()
