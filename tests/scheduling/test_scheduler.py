"""The registry: loads by hand, capabilities, and choices that do not depend on what came before."""

import numpy as np

from rayfed.config import parse
from rayfed.scheduling.load import Capability, Load, equal_load, linear_load
from rayfed.scheduling.scheduler import Scheduler


def test_equal_load_caps_a_batch_at_what_a_device_has() -> None:
    assert equal_load(np.array([1, 49, 50, 900]), 50, 30) == [Load(2, 30), Load(49, 30), Load(50, 30), Load(50, 30)]


def test_linear_load_by_hand() -> None:
    """Memory 4, 3, 1 of at most 4: shares 1, 0.75, and 0.25 raised to the floor 0.5; compute 1, 0.2, 0.6."""
    capabilities = [Capability(4, 1), Capability(3, 0.2), Capability(1, 0.6)]
    loads = linear_load(np.array([1000, 1000, 20]), capabilities, 40, 30)
    assert loads == [Load(40, 30), Load(30, 15), Load(20, 18)]


def scheduler(**method: object) -> Scheduler:
    config = parse(
        {
            "method": {"name": "fegan", "fraction": 0.5} | method,
            "devices": {"count": 10, "weak_fraction": 0.3, "weak_memory": 0.5, "weak_compute": 0.6},
        }
    )
    return Scheduler(config, np.full((10, 3), 40))


def test_weak_devices_are_as_many_as_asked_and_get_less() -> None:
    registry = scheduler(load="linear", batch=40, iterations=30)
    weak = [k for k, capability in enumerate(registry.capabilities) if capability.memory < 1]
    assert len(weak) == 3
    for device, load in enumerate(registry.loads(list(range(10)))):
        assert load == (Load(20, 18) if device in weak else Load(40, 30))


def test_random_selection_is_keyed_by_round_alone() -> None:
    assert scheduler(sampling="random").select(7, {}) == scheduler(sampling="random").select(7, {})
    assert scheduler(sampling="random").select(7, {}) != scheduler(sampling="random").select(8, {})


def test_balanced_state_is_json_and_goes_on_where_it_was() -> None:
    import json

    registry = scheduler()
    _, state = registry.select(1, registry.start())
    again = json.loads(json.dumps(state))
    assert registry.select(2, again) == registry.select(2, state)
