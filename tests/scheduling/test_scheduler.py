"""The registry: loads by hand, capabilities, and choices that do not depend on what came before."""

import inspect
import json

import numpy as np
import pytest

from rayfed.config import parse
from rayfed.data.population import Population
from rayfed.methods.spec import method_of
from rayfed.scheduling.load import Capability, Load, capabilities, equal_load, linear_load
from rayfed.scheduling.scheduler import Scheduler
from rayfed.twin.network import Network


def test_equal_load_caps_a_batch_at_what_a_device_has() -> None:
    """What it was assigned stays B x E: 1,500 images in a round for each."""
    loads = equal_load(np.array([1, 49, 50, 900]), 50, 30)
    assert loads == [Load(2, 30, 50), Load(49, 30, 50), Load(50, 30, 50), Load(50, 30, 50)]
    assert [load.images for load in loads] == [60, 1470, 1500, 1500]
    assert [load.assigned_images for load in loads] == [1500] * 4


def test_linear_load_by_hand() -> None:
    """Memory 4, 3, 1 of at most 4: shares 1, 0.75, and 0.25 raised to the floor 0.5; compute 1, 0.2, 0.6.

    The third device holds 15 images, fewer than the batch of 20 that it was assigned.
    """
    capabilities = [Capability(4, 1), Capability(3, 0.2), Capability(1, 0.6)]
    loads = linear_load(np.array([1000, 1000, 15]), capabilities, 40, 30)
    assert loads == [Load(40, 30, 40), Load(30, 15, 30), Load(15, 18, 20)]
    assert [load.assigned_images for load in loads] == [1200, 450, 360]


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
    found = capabilities(registry.config.devices, registry.config.seed)
    weak = [k for k, capability in enumerate(found) if capability.memory < 1]
    assert len(weak) == 3
    for device, load in enumerate(registry.loads(list(range(10)))):
        assert load == (Load(20, 18, 20) if device in weak else Load(40, 30, 40))


@pytest.mark.parametrize("name", ["fegan", "fsl-gan"])
def test_what_a_server_half_sees_of_it_is_there_on_ray_too(name: str) -> None:
    """There its methods are remote calls, and `config` is all that the actor's stand-in holds."""
    clients = [{"name": "a", "devices": [{"name": "0", "capacity": 1e6, "time_factor": 1.0}]}]
    section = {"name": name} | ({"clients": clients} if name == "fsl-gan" else {"fraction": 1.0})
    config = parse({"method": section, "devices": {"count": 1}, "model": {"name": "dcgan28", "width": 4}})
    counts = np.array([[10, 10]])
    registry = method_of(config).scheduler(config, Population(1, counts, counts[0], counts[0]))
    public = [each for each in dir(registry) if not each.startswith("_")]
    assert [each for each in public if not inspect.ismethod(getattr(registry, each))] == ["config"]


def test_random_selection_is_keyed_by_round_alone() -> None:
    assert scheduler(sampling="random").select(7, {}) == scheduler(sampling="random").select(7, {})
    assert scheduler(sampling="random").select(7, {}) != scheduler(sampling="random").select(8, {})


def test_balanced_state_is_json_and_goes_on_where_it_was() -> None:
    registry = scheduler()
    _, state = registry.select(1, registry.start())
    again = json.loads(json.dumps(state))
    assert registry.select(2, again) == registry.select(2, state)


def registry_of(twin: dict, devices: int = 10, **method: object) -> Scheduler:
    config = parse({"method": {"name": "ren"} | method, "devices": {"count": devices}, "twin": twin, "seed": 4})
    return Scheduler(config, np.full((devices, 2), 100))


def groups(registry: Scheduler, rounds: int) -> list[list[int]]:
    """The rounds' groups."""
    state, found = registry.start(), []
    for round in range(1, rounds + 1):
        group, state = registry.select(round, state)
        found.append(group)
    return found


@pytest.mark.parametrize(("ratio", "size"), [(0.2, 2), (0.5, 5), (1.0, 10)])
@pytest.mark.parametrize("sampling", ["random", "balanced", "round-robin", "proportional-fair", "best-channel"])
def test_the_scheduling_ratio_says_how_many(sampling: str, ratio: float, size: int) -> None:
    for group in groups(registry_of({"network": {"kind": "cell"}}, fraction=ratio, sampling=sampling), 4):
        assert len(set(group)) == size
        assert set(group) <= set(range(10))


def test_best_channel_takes_the_nearest_devices_of_a_cell() -> None:
    registry = registry_of({"network": {"kind": "cell"}}, fraction=0.3, sampling="best-channel")
    nearest = np.argsort(Network(registry.config.twin, 10, 4).distances)[:3].tolist()
    assert groups(registry, 3) == [nearest] * 3


def test_round_robin_and_proportional_fair_give_all_of_a_cell_their_turns() -> None:
    """Ten devices, five a round: each in one round of any two."""
    for sampling in ("round-robin", "proportional-fair"):
        found = groups(registry_of({"network": {"kind": "cell"}}, fraction=0.5, sampling=sampling), 8)
        for first, second in zip(found[::2], found[1::2], strict=True):
            assert sorted(first + second) == list(range(10))


@pytest.mark.parametrize("devices", [[{}], [{}, {"up_mbps": 5.0}]])
def test_on_a_lan_without_limits_proportional_fair_still_gives_everyone_a_turn(devices: list) -> None:
    registry = registry_of({"network": {"kind": "lan"}, "devices": devices}, fraction=0.2, sampling="proportional-fair")
    found = groups(registry, 20)
    for start in range(0, 20, 5):
        assert sorted(device for group in found[start : start + 5] for device in group) == list(range(10))


def test_who_has_dropped_out_is_drawn_and_left_out() -> None:
    """Odd devices are away in half of the rounds: 5 * 200 * 0.5 = 500, standard deviation sqrt(250) = 16."""
    twin = {"devices": [{}, {"dropout": 0.5}]}
    registry = registry_of(twin)
    found = groups(registry, 200)
    assert all(set(range(0, 10, 2)) <= set(group) for group in found)
    assert abs(sum(len(group) for group in found) - 1500) < 80
    assert groups(registry_of(twin), 200) == found


@pytest.mark.parametrize("sampling", ["random", "balanced", "round-robin", "proportional-fair", "best-channel"])
def test_a_dropout_changes_no_later_draw(sampling: str) -> None:
    still = groups(registry_of({}, fraction=0.5, sampling=sampling), 12)
    found = groups(registry_of({"devices": [{"dropout": 0.4}]}, fraction=0.5, sampling=sampling), 12)
    assert found != still
    for group, whole in zip(found, still, strict=True):
        assert [device for device in whole if device in group] == group


def test_md_gans_devices_drop_out_too() -> None:
    config = parse({"method": {"name": "md-gan"}, "twin": {"devices": [{"dropout": 0.5}]}})
    sizes = {len(Scheduler(config, np.full((10, 2), 100)).select(round, {})[0]) for round in range(1, 30)}
    assert max(sizes) < 10
    assert len(sizes) > 1
