"""Which nodes of a cluster file a run takes, counted by hand."""

from pathlib import Path

import pytest
import yaml

from rayfed.cluster.node_types import ClusterFile, nodes_for, read_cluster_file
from rayfed.config import parse
from rayfed.errors import CapacityError, UserError

TYPES = {
    "cpu": {"resources": {"CPU": 16}, "node_config": {}, "max_workers": 2},
    "head": {"resources": {"CPU": 4}, "node_config": {}},
    "four": {"resources": {"CPU": 48, "GPU": 4}, "node_config": {}, "max_workers": 1},
    "one": {"resources": {"CPU": 8, "GPU": 1}, "node_config": {}, "min_workers": 1, "max_workers": 3},
}


@pytest.fixture
def cluster_file(tmp_path: Path) -> ClusterFile:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump({"max_workers": 5, "head_node_type": "head", "available_node_types": TYPES}))
    return read_cluster_file(path)


def run(hosts, **device_host):
    resources = {"hosts": hosts, "device_host": device_host}
    return parse({"method": {"name": "fegan", "fraction": 1.0}, "devices": {"count": 12}, "resources": resources})


def test_the_head_comes_first_and_is_one(cluster_file):
    assert [(kind.name, kind.least, kind.most) for kind in cluster_file.types] == [
        ("head", 1, 1),
        ("cpu", 0, 2),
        ("four", 0, 1),
        ("one", 1, 3),
    ]


@pytest.mark.parametrize(
    ("hosts", "asked", "nodes"),
    [
        (6, {"num_gpus": 0.25}, {"head": 1, "one": 2}),  # 4 + 2 quarters
        (4, {"num_gpus": 0.25}, {"head": 1, "one": 1}),  # min_workers: it is there anyway
        (4, {"num_gpus": 1}, {"head": 1, "one": 3, "four": 1}),  # three of one GPU each, then the large one
        (3, {"num_gpus": 2}, None),  # two on the large node, and there is one
        (20, {"num_cpus": 1}, {"head": 1, "one": 1, "cpu": 1}),  # 4 + 8, then 8 of 16
        ("auto", {"num_gpus": 1}, {"head": 1, "one": 3, "four": 1}),  # twelve would be of use, seven there are
        (1, {"num_gpus": 8}, None),
        (
            {"max": 99},
            {"num_cpus": 1},
            {"head": 1, "one": 3, "cpu": 2},
        ),  # five workers are the most
    ],
)
def test_nodes_by_type(cluster_file, hosts, asked, nodes):
    config = run(hosts, **{"num_cpus": 0.5, **asked})
    if nodes is None:
        with pytest.raises(CapacityError, match=r"^resources\.device_host: no room for 1 device_host at 0\.5 CPU, "):
            nodes_for(config, cluster_file)
    else:
        assert nodes_for(config, cluster_file)[1] == nodes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rounds: 3", "not a cluster file; it has no available_node_types with its head_node_type"),
        ("[", "not valid YAML"),
        (
            "available_node_types: {a: {}}\nhead_node_type: a",
            "node type a states no resources, such as {CPU: 8, GPU: 1}",
        ),
        ("available_node_types: {a: {resources: {CPU: 1}}}\nhead_node_type: b", "not a cluster file"),
    ],
)
def test_what_is_no_cluster_file_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_cluster_file(path)
    assert message in str(caught.value)
    with pytest.raises(UserError, match=r"^--cluster .*: cannot be read \(No such file or directory\)$"):
        read_cluster_file(tmp_path / "none.yaml")


def test_the_files_that_come_with_rayfed_say_what_their_nodes_have():
    """All but Kubernetes' files; each has a GPU type, and none at first."""
    root = Path(__file__).parents[2]
    for name in ("cluster.yaml", "cluster/gcp.yaml"):
        kinds = read_cluster_file(root / name).types
        assert kinds[0].resources.get("GPU", 0) == 0
        assert any(kind.resources.get("GPU") and kind.least == 0 for kind in kinds)
