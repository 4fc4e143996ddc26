"""A rehearsal costs what the rounds cost: bytes, operations and simulated seconds are those of a real run."""

from typing import Any

import pytest

from rayfed import plugins
from rayfed.app.rehearsal import rehearse_rounds
from rayfed.config import parse
from rayfed.data.setup import prepare
from rayfed.engine.session import LocalSession

CLIENTS = [
    {
        "name": name,
        "devices": [{"name": f"{i}", "capacity": size, "time_factor": 1.0 + i} for i, size in enumerate(sizes)],
    }
    for name, sizes in (("a", (4_000, 1_000)), ("b", (1e6, 1e6, 1e6)), ("c", (1_000, 4_000, 1e6)))
]
METHODS: dict[str, dict[str, Any]] = {
    "fsl-gan": {"clients": CLIENTS, "micro_batches": 2},
    "fsl-gan single": {"clients": CLIENTS[1:], "strategy": "random_single"},
    "md-gan": {"swap_epochs": 0.05},
    "ren": {"schedule": "parallel"},
    "split-learning": {"iterations": 0},
    "splitfed": {},
    "fedavg": {"fraction": 0.5},
    "iotsl": {"generator_rounds": 2, "generator_steps": 3, "generator_batch": 4, "generator_width": 4},
}
COSTS = ("sim_seconds", "bytes_up", "bytes_down", "bytes_across", "flops_devices")


@pytest.mark.parametrize("label", METHODS)
def test_a_rehearsed_round_costs_what_a_real_one_does(label: str) -> None:
    method = {"name": label.split()[0], "batch": 6, "iterations": 2} | METHODS[label]
    config = parse(
        {
            "method": method,
            "devices": {"count": len(method.get("clients", "four"))},
            "data": {"partition": "iid"},
            "model": {"name": "dcgan28" if plugins.method(method["name"]).task_name == "gan" else "cnn5", "width": 4},
            "evaluation": {"every": 0},
            "twin": {"network": {"kind": "lan"}},
        }
    )
    federation = prepare(config, 28)
    session = LocalSession(config, federation)
    session.start(None)
    real = [session.round().metrics for _ in range(2)]
    rehearsed = rehearse_rounds(config, federation, 2)
    assert [[each[name] for name in COSTS] for each in rehearsed] == [[each[name] for name in COSTS] for each in real]
