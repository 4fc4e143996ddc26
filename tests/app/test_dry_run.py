"""What a run would take, beside what it takes."""

import json

import pytest
from typer.testing import CliRunner

from rayfed.api import run
from rayfed.cli import app

SMALL = ["method.name=fegan", "method.fraction=0.4", "method.batch=8", "method.iterations=2", "rounds=3"]
SMALL += ["model.name=dcgan28", "model.width=4", "evaluation.every=0", "twin.network.kind=lan"]
CLUSTER = """
max_workers: 4
head_node_type: head
available_node_types:
  head: {resources: {CPU: 4}, node_config: {}}
  gpu: {resources: {CPU: 8, GPU: 1}, node_config: {}}
"""


def test_a_round_costs_on_paper_what_it_then_costs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    gpus = ["resources.hosts=6", "resources.device_host.num_gpus=0.25"]
    done = CliRunner().invoke(app, ["run", *SMALL, *gpus, "--dry-run", "--cluster", "cluster.yaml", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["nodes"] == {"head": 1, "gpu": 2}
    assert found["actors"][-1] == {"role": "device_host", "count": 6, "each": {"CPU": 1, "GPU": 0.25}}
    assert found["rounds"] == 3
    result = run(None, local=True, progress=False, **{key.replace(".", "__"): value for key, value in pairs(SMALL)})
    [phase] = found["phases"]
    assert (phase.pop("name"), phase.pop("rounds")) == ("", 3)
    for name, value in phase.items():
        assert result.metrics[0][name] == pytest.approx(value), name
    assert {"bytes_up", "bytes_down", "flops_devices", "sim_seconds", "participants"} <= phase.keys()


def test_for_people_it_is_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    gpus = ["resources.hosts={min: 2, max: 6}", "resources.device_host.num_gpus=0.5"]
    done = CliRunner().invoke(app, ["run", *SMALL, *gpus, "--dry-run", "--cluster", "cluster.yaml"])
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines() if "  " in line)
    assert lines["device hosts"].strip() == "from 2 to 6"
    assert lines["nodes"].strip() == "1 head, 3 gpu"
    assert lines["the run"].strip().startswith("3 rounds, ")
    assert list(tmp_path.iterdir()) == [tmp_path / "cluster.yaml"], "nothing is left behind"


def test_each_kind_of_rounds_costs_its_own(tmp_path, monkeypatch):
    """IoTSL's generators move nothing, its fine-tuning what split learning does, labels, smashed data and gradients."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    told = ["data.partition=iid", "devices.count=2", "model.name=cnn5", "model.width=4", "evaluation.every=0"]
    iotsl = [
        "method.name=iotsl",
        "method.generator_width=4",
        "method.generator_steps=3",
        "method.batch=1000",
        "rounds=12",
    ]
    planned = ["run", *told, *iotsl, "rounds=12", "--dry-run", "--cluster", "cluster.yaml"]
    found = json.loads(CliRunner().invoke(app, [*planned, "--json"]).stdout)
    generators, tuning = found["phases"]
    assert (generators["name"], generators["rounds"], generators["bytes_up"]) == ("generators", 2, 0)
    assert (tuning["name"], tuning["rounds"], tuning["images"]) == ("fine-tuning", 4, 6000)
    split = run(
        None,
        local=True,
        progress=False,
        rounds=1,
        method__name="split-learning",
        method__batch=1000,
        **{key.replace(".", "__"): value for key, value in pairs(told)},
    )
    for name in ("bytes_up", "bytes_down", "bytes_across", "flops_devices", "sim_seconds"):
        assert tuning[name] == pytest.approx(split.metrics[0][name]), name
    text = CliRunner().invoke(app, planned).stdout
    assert "a round of generators moves" in text
    assert "a round of fine-tuning takes" in text


def test_what_no_type_of_node_holds_is_refused(tmp_path, monkeypatch):
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    done = CliRunner().invoke(
        app,
        ["run", *SMALL, "resources.device_host.num_gpus=2", "--dry-run", "--cluster", str(tmp_path / "cluster.yaml")],
    )
    assert str(done.exception).startswith(
        "resources.device_host: no room for 1 device_host at 1 CPU, 2 GPU each on all"
    )


def pairs(overrides):
    import yaml

    return [(key, yaml.safe_load(value)) for key, _, value in (each.partition("=") for each in overrides)]
