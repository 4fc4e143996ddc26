"""Plans of many clients at once, and what is planned again when a device goes or drifts."""

import time
from typing import Any

import numpy as np

from rayfed.config import parse
from rayfed.methods.fsl_gan.scheduler import ClientPlans, Placement
from rayfed.models.block import Block


def client(name: str, *devices: tuple[float, float]) -> dict[str, Any]:
    """Devices by (capacity, time factor)."""
    rows = [{"name": f"{i}", "capacity": size, "time_factor": factor} for i, (size, factor) in enumerate(devices)]
    return {"name": name, "devices": rows}


def block(parameters: int) -> Block:
    return Block("", parameters, activation=10, flops_forward=2**20, flops_backward=2**21, flops_input=2**20)


def plans(clients: list[dict[str, Any]], blocks: int, **method: Any) -> ClientPlans:
    settings = {"name": "fsl-gan", "clients": clients, "portions": "blocks"} | method
    config = parse(
        {
            "method": settings,
            "devices": {"count": len(clients)},
            "data": {"partition": "iid"},
            "model": {"name": "dcgan28"},
            "twin": {"network": {"kind": "lan"}},
        }
    )
    return ClientPlans(config, [block(1)] * blocks)


def test_a_round_of_a_thousand_clients_is_planned_in_seconds_and_the_next_at_once() -> None:
    """8 devices each, 12 portions; one thread, on a machine that may be busy."""
    rng = np.random.default_rng(0)
    clients = [client(f"{k}", *zip(rng.uniform(1, 14, 8), rng.uniform(1, 9, 8), strict=True)) for k in range(1_000)]
    many = plans(clients, 12)
    start = time.perf_counter()
    first = many.placements(1, [])
    assert time.perf_counter() - start < 5
    taken = []
    for round in (2, 3, 4):
        start = time.perf_counter()
        found = many.placements(round, [first[round].stages[0][0]])
        taken.append(time.perf_counter() - start)
        assert [k for k in range(1_000) if found[k] != first[k]] == [round]
    assert min(taken) < 1


def test_a_plan_follows_who_is_there_and_how_fast_it_is() -> None:
    """Each device holds both blocks; a's second is three times as slow as its first, until that one takes 4 times."""
    both = plans([client("a", (2, 1), (2, 3)), client("b", (2, 1))], 2)

    def devices(found: list[Placement]) -> list[list[int]]:
        return [[device for device, _ in placement.stages] for placement in found]

    assert devices(both.placements(1, [])) == [[0], [2]]
    assert devices(both.placements(2, [0])) == [[1], [2]]
    assert devices(both.placements(3, [])) == [[0], [2]]
    both.assume({0: 4.0})
    assert devices(both.placements(4, [])) == [[1], [2]]
    assert devices(both.placements(4, [2])) == [[1]]
    assert both.misfits([2]) == {"b": "its devices cannot hold the discriminator's 2 parameters, portion after portion"}
