"""What fits a cluster, by hand: nodes are plain dictionaries of Ray's resource names."""

import pytest

from rayfed.cluster.capacity import Ask, amounts, describe, hosts, place, plan, plan_of, refuse
from rayfed.config import Resources, RunConfig, parse
from rayfed.errors import CapacityError

GB = 10**9
CPU_NODE = {"CPU": 4, "memory": 8 * GB, "node:10.0.0.1": 1.0, "object_store_memory": 2 * GB}
GPU_NODE = {"CPU": 8, "GPU": 1, "memory": 16 * GB}


def resources(**roles):
    return Resources.model_validate(roles)


def test_a_roles_annotations_are_ray_resources_without_the_zeros():
    role = resources(device_host={"num_cpus": 0.5, "num_gpus": 0.25, "memory": 2 * GB}).device_host
    assert amounts(role) == {"CPU": 0.5, "GPU": 0.25, "memory": 2e9}
    assert amounts(resources().server) == {}


@pytest.mark.parametrize(("count", "left"), [(4, 0), (6, 0), (8, 0), (9, 1)])
def test_quarters_of_a_gpu_fill_one_node_and_spill_over_to_the_next(count, left):
    """6 x 0.25 on two 1-GPU nodes are 4 + 2; 8 is all there is."""
    unplaced = place([Ask("device_host", count, {"GPU": 0.25})], [GPU_NODE, GPU_NODE])
    assert sum(ask.count for ask in unplaced) == left


def test_shares_never_straddle_two_nodes():
    """1.5 GPUs are free in all, half a GPU on each of three nodes: room for three halves and for no 0.75."""
    nodes = [{"GPU": 0.5}] * 3
    assert place([Ask("device_host", 3, {"GPU": 0.5})], nodes) == []
    assert place([Ask("device_host", 1, {"GPU": 0.75})], nodes) == [Ask("device_host", 1, {"GPU": 0.75})]


def test_ten_shares_of_a_tenth_fill_a_whole():
    """0.1 ten times is not 1 in floating point."""
    assert place([Ask("device_host", 10, {"CPU": 0.1})], [{"CPU": 1}]) == []


@pytest.mark.parametrize(
    ("large", "small", "nodes"),
    [
        ({"CPU": 4}, {"CPU": 2}, [{"CPU": 4}, {"CPU": 2}, {"CPU": 2}]),
        ({"memory": 60}, {"CPU": 1, "memory": 4}, [{"CPU": 4, "memory": 64}, {"CPU": 4, "memory": 8}]),
        ({"GPU": 0.5, "CPU": 2}, {"CPU": 3}, [{"GPU": 0.5, "CPU": 3}, {"CPU": 6}]),
    ],
)
def test_small_asks_do_not_take_the_only_place_of_a_large_one(large, small, nodes):
    """Two small asks, placed first, would go to the first node and leave the large one out."""
    assert place([Ask("device_host", 2, small), Ask("server", 1, large)], nodes) == []


def test_every_resource_must_fit_on_the_same_node():
    rich_in_memory, rich_in_cpus = {"CPU": 1, "memory": 64 * GB}, {"CPU": 64, "memory": 1 * GB}
    ask = Ask("evaluator", 1, {"CPU": 2, "memory": 2 * GB})
    assert place([ask], [rich_in_memory, rich_in_cpus]) == [ask]
    assert place([ask], [rich_in_memory | {"CPU": 2}, rich_in_cpus]) == []


def test_planning_leaves_the_nodes_as_they_are():
    node = dict(GPU_NODE)
    place([Ask("device_host", 4, {"GPU": 0.25, "CPU": 1})], [node])
    assert node == GPU_NODE


@pytest.mark.parametrize(
    ("roles", "useful", "count"),
    [
        ({}, 100, 4),  # a core each
        ({}, 3, 3),  # no more than are useful
        ({"device_host": {"num_cpus": 0.5}}, 100, 8),
        ({"device_host": {"num_cpus": 2}}, 100, 2),
        ({"server": {"num_cpus": 1}}, 100, 3),  # beside the server
        ({"server": {"num_cpus": 1}, "evaluator": {"num_cpus": 2}}, 100, 1),
        ({"device_host": {"num_cpus": 1, "memory": 3 * GB}}, 100, 2),  # 8 GB hold two of 3 GB
        ({"device_host": {"num_cpus": 5}}, 100, 1),  # never none: what does not fit is told, not dropped
        ({"device_host": {"num_cpus": 0}}, 100, 4),  # asks for nothing: still not more than cores
        ({"device_host": {"num_cpus": 0}}, 2, 2),
        ({"hosts": 7}, 3, 7),  # a number is the user's word
    ],
)
def test_auto_takes_as_many_hosts_as_fit_beside_the_others_and_are_useful(roles, useful, count):
    assert hosts(plan(resources(**roles), [CPU_NODE], useful, evaluator=True)) == count


def test_auto_counts_gpu_shares_over_all_nodes():
    capacity = plan(resources(device_host={"num_cpus": 1, "num_gpus": 0.25}), [GPU_NODE, CPU_NODE, GPU_NODE], 6, True)
    assert hosts(capacity) == 6
    assert capacity.unplaced == ()
    assert capacity.total == {"CPU": 20, "GPU": 2, "memory": 40e9}


def test_the_evaluator_is_asked_for_only_where_something_is_evaluated():
    section = resources(evaluator={"num_cpus": 4})
    assert plan(section, [CPU_NODE], 100, evaluator=True).unplaced == (Ask("device_host", 1, {"CPU": 1}),)
    assert hosts(plan(section, [CPU_NODE], 100, evaluator=False)) == 4


def test_a_plan_that_fits_is_not_refused():
    fitting = plan(resources(), [CPU_NODE], 100, True)
    refuse(fitting)
    assert fitting.unplaced == ()


def test_actors_that_ask_for_nothing_fit_even_where_there_is_nothing():
    capacity = plan(resources(device_host={"num_cpus": 0}), [{"memory": 1 * GB}], 5, True)
    assert hosts(capacity) == 1
    assert [describe(ask) for ask in capacity.asks] == ["1 server", "1 scheduler", "1 evaluator", "1 device_host"]
    refuse(capacity)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            {"hosts": 64},
            "resources.device_host: no room for 60 device_host at 1 CPU each; the cluster has 4 CPU, 8 GB memory on "
            "1 node and no autoscaler; ask for less or add nodes",
        ),
        (
            {"device_host": {"num_gpus": 0.25}},
            "resources.device_host: no room for 1 device_host at 1 CPU, 0.25 GPU each; the cluster has 4 CPU, 8 GB "
            "memory on 1 node and no autoscaler; ask for less or add nodes",
        ),
        (
            {"server": {"memory": 9 * GB}},
            "resources.server: no room for 1 server at 9 GB memory each; the cluster has 4 CPU, 8 GB memory on "
            "1 node and no autoscaler; ask for less or add nodes",
        ),
    ],
)
def test_what_can_never_fit_is_one_line_with_the_role_the_ask_and_what_there_is(roles, message):
    with pytest.raises(CapacityError) as caught:
        refuse(plan(resources(**roles), [CPU_NODE], 100, True))
    assert str(caught.value) == message
    assert caught.value.exit_code == 3


def test_a_cluster_without_nodes_holds_nothing():
    with pytest.raises(CapacityError, match=r"^resources\.device_host: no room for 1 device_host at 1 CPU each"):
        refuse(plan(resources(), [], 4, True))


def fsl(*clients: list[dict[str, float]], **roles: object) -> RunConfig:
    """FSL-GAN with so many devices per client, each with its annotations."""
    devices = [
        [{"name": f"{k}", "capacity": 1e6, "time_factor": 1.0} | own for k, own in enumerate(client)]
        for client in clients
    ]
    table = [{"name": f"{k}", "devices": each} for k, each in enumerate(devices)]
    return parse(
        {"method": {"name": "fsl-gan", "clients": table}, "devices": {"count": len(table)}, "resources": roles}
    )


def test_devices_with_hosts_of_their_own_ask_for_what_their_table_says():
    """Client 0's strong device needs a GPU's half; two CPU nodes would hold the other client."""
    config = fsl([{"ray_gpus": 0.5, "ray_memory": 1e9}, {}], [{"ray_cpus": 2}, {}], hosts=4)
    capacity = plan_of(config, [GPU_NODE, GPU_NODE | {"GPU": 2}])
    assert capacity.unplaced == ()
    assert capacity.host_of == (0, 1, 2, 3)
    asked = [amounts for amounts, _ in capacity.hosts]
    assert asked == [{"CPU": 1, "GPU": 0.5, "memory": 1e9}, {"CPU": 1}, {"CPU": 2}, {"CPU": 1}]
    assert sorted(describe(ask) for ask in capacity.asks if ask.role == "device_host") == [
        "1 device_host at 1 CPU, 0.5 GPU, 1 GB memory each",
        "1 device_host at 2 CPU each",
        "2 device_host at 1 CPU each",
    ]


def test_a_host_of_several_devices_asks_for_the_most_demanding_one():
    config = fsl([{"ray_cpus": 0.5}, {"ray_cpus": 1}], [{"ray_memory": 1e9}, {}], hosts=1)
    assert plan_of(config, [CPU_NODE]).hosts == (({"CPU": 1, "memory": 1e9}, 0),)


def test_auto_gives_each_device_a_host_where_there_is_room():
    config = fsl([{}, {}], [{}, {}, {}], device_host={"num_cpus": 0.5})
    assert hosts(plan_of(config, [CPU_NODE])) == 5
    assert hosts(plan_of(config, [{"CPU": 1}])) == 2


def test_a_device_that_no_node_can_host_is_refused():
    config = fsl([{"ray_gpus": 1}, {}], hosts=2)
    with pytest.raises(CapacityError, match=r"^resources\.device_host: no room for 1 device_host at 1 CPU, 1 GPU each"):
        refuse(plan_of(config, [CPU_NODE]))
