"""A method in one file beside the configuration runs, resumes, compares and is tracked with no change in rayfed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient

import rayfed as library
from rayfed.engine.callbacks import Callback
from rayfed.engine.checkpoint import Checkpoint
from rayfed.models.networks import dcgan28
from tests.plugins.commands import Outcome, assert_same_bits, last_commit, rayfed, script, summary

TINY: dict[str, Any] = {
    "rounds": 3,
    "seed": 4,
    "method": {"name": "toy_method:METHOD", "beta": 0.5, "fraction": 0.5, "iterations": 2, "batch": 4},
    "devices": {"count": 4},
    "data": {"partition": "iid"},
    "model": {"name": "dcgan28", "width": 4},
    "evaluation": {"every": 0, "extractor": "classifier", "samples": 64},
    "tracking": {"enabled": False},
    "resources": {"hosts": 2, "device_host": {"num_cpus": 0.5}},
}
GENERATOR = sum(tensor.numel() for tensor in dcgan28(1, 4, 0)[0].state_dict().values())
DISCRIMINATOR = sum(tensor.numel() for tensor in dcgan28(1, 4, 0)[1].state_dict().values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a user works: the method's file and a configuration, side by side."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copy(Path(__file__).with_name("toy_method.py"), folder)
    (folder / "toy.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield folder
    del sys.modules["toy_method"]


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> str:
    """A run without Ray."""
    return str(summary(folder, "run", "toy.yaml", "--local")["run"])


def test_the_generator_alone_crosses_the_wire_and_its_steps_have_momentum(folder: Path, undisturbed: str) -> None:
    commit = last_commit(folder, undisturbed)
    assert undisturbed.startswith("toy_method-")
    assert {name: array.shape for name, array in commit.arrays.items()} == {
        "generator": (GENERATOR,),
        "generator.velocity": (GENERATOR,),
    }
    assert len(commit.facts["method"]["moved"]) == 3
    assert min(commit.facts["method"]["moved"]) > 0
    assert commit.metrics["bytes_up"] == commit.metrics["bytes_down"] == 2 * 4 * GENERATOR
    assert len(commit.devices) >= 2
    for state in commit.devices.values():
        assert state.keys() == {"discriminator", *(f"discriminator.{key}" for key in ("step", "exp_avg", "exp_avg_sq"))}
        assert state["discriminator"].shape == (DISCRIMINATOR,)


def test_momentum_begins_with_the_second_step(folder: Path) -> None:
    """The first step begins at rest: without momentum, and with it, it leads to the plain mean."""
    rest, moving = (
        [
            last_commit(folder, summary(folder, "run", "toy.yaml", "--local", beta, f"rounds={rounds}")["run"]).arrays
            for rounds in (1, 2)
        ]
        for beta in ("method.beta=0.0", "method.beta=0.5")
    )
    np.testing.assert_array_equal(rest[0]["generator"], moving[0]["generator"])
    step = (rest[1]["generator"] - rest[0]["generator"]).astype(float)
    more = (moving[1]["generator"] - moving[0]["generator"]).astype(float) - step  # half of the first step
    first = 0.5 * -rest[0]["generator.velocity"].astype(float)
    moved = np.abs(more) > 1e-9  # BatchNorm's statistics have no momentum
    assert 0.9 < moved.mean() < 1
    np.testing.assert_allclose(more[moved], first[moved], rtol=1e-2, atol=1e-6)


@pytest.mark.slow
def test_ray_finds_the_method_beside_the_configuration_and_trains_the_same_weights(
    folder: Path, undisturbed: str, tmp_path: Path
) -> None:
    """The installed script has no working directory on its import path, and Ray's workers have paths of their own."""
    for name in ("toy_method.py", "toy.yaml"):
        shutil.copy(folder / name, tmp_path)
    outcome = script(tmp_path, "run", "toy.yaml", "--json")
    assert outcome.code == 0, outcome.err
    assert_same_bits(last_commit(tmp_path, outcome.json["run"]), last_commit(folder, undisturbed))
    assert events(tmp_path, outcome.json["run"]) == events(folder, undisturbed) == moves(folder, undisturbed)


def events(folder: Path, run: str) -> list[list[str]]:
    """A run's events.csv, without its header."""
    with (folder / "rayfed-runs" / run / "events.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


def moves(folder: Path, run: str) -> list[list[str]]:
    """What the method has to tell of each round, from what its state remembers."""
    moved = last_commit(folder, run).facts["method"]["moved"]
    return [[str(round), f"the generator moved by {each:.3g}"] for round, each in enumerate(moved, 1)]


def test_a_store_is_read_where_the_method_is_not_installed_any_more(folder: Path, undisturbed: str) -> None:
    """Its events have a type of the method's own, which a process that has not imported it does not know."""
    code = (
        "import json, sys\n"
        "from rayfed.events import from_json\n"
        "from rayfed.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "told = [from_json(data).sentence() for _, data in store.events(sys.argv[2])]\n"
        "print(json.dumps(told))\n"
    )
    store = f"sqlite:///{folder}/rayfed-runs/rayfed.db"
    done = subprocess.run([sys.executable, "-c", code, store, undisturbed], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    moved = last_commit(folder, undisturbed).facts["method"]["moved"]
    assert [json.loads(text) for text in json.loads(done.stdout)] == [
        {"kind": "toy-moved", "distance": distance} for distance in moved
    ]


class CtrlC(Callback):
    """Presses it in the second round."""

    def on_round(self, checkpoint: Checkpoint) -> None:
        if checkpoint.round == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resumed_run_ends_with_the_weights_of_the_undisturbed_one(
    folder: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    interrupted = library.run("toy.yaml", local=True, progress=False, callbacks=[CtrlC()])
    assert (interrupted.status, len(interrupted.metrics)) == ("interrupted", 2)
    resumed = summary(folder, "resume", interrupted.run_id, "--local")
    assert (resumed["status"], resumed["rounds"]) == ("finished", 3)
    assert_same_bits(last_commit(folder, interrupted.run_id), last_commit(folder, undisturbed))


def test_what_the_method_refuses_is_told_in_one_line(folder: Path) -> None:
    message = "wire = 'int8': toy adds up small steps; use float32 or float16"
    assert rayfed(folder, "run", "toy.yaml", "wire=int8") == Outcome(2, "", f"rayfed: {message}\n")
    message = "method.beta = 1.0: must be less than 1"
    assert rayfed(folder, "run", "toy.yaml", "method.beta=1.0") == Outcome(2, "", f"rayfed: {message}\n")
    message = "method.betta = 1.0: unknown key; did you mean method.beta?"
    assert rayfed(folder, "run", "toy.yaml", "method.betta=1.0") == Outcome(2, "", f"rayfed: {message}\n")


def test_the_twin_counts_its_hops_and_its_memory(folder: Path) -> None:
    """On devices that compute in no time a round is two hops: the generator down, and up."""
    fast = "[{flops_per_s: 1.0e+300}]"
    lan = ["twin.network={kind: lan, hop_s: 0.25}", "twin.server.flops_per_s=1.0e+300"]
    run = summary(folder, "run", "toy.yaml", "--local", f"twin.devices={fast}", *lan)["run"]
    assert last_commit(folder, run).metrics["sim_total_seconds"] == pytest.approx(3 * 2 * 0.25)
    needed = 4 * 4 * (GENERATOR + DISCRIMINATOR)  # weight, gradient and Adam's two moments of G and D, in float32
    enough, short = (f"twin.devices=[{{memory: {memory}}}]" for memory in (needed, needed - 1))
    refused = rayfed(folder, "run", "toy.yaml", "--local", "rounds=1", short)
    assert refused.code == 2
    assert f"needs {needed} bytes" in refused.err
    assert rayfed(folder, "run", "toy.yaml", "--local", "rounds=1", enough).code == 0


def test_it_is_compared_beside_fegan(folder: Path) -> None:
    method = TINY["method"]
    base = {key: value for key, value in TINY.items() if key not in ("method", "rounds")}
    base |= {"rounds": 1, "evaluation": TINY["evaluation"] | {"every": 1}}
    fegan = {key: value for key, value in method.items() if key != "beta"} | {"name": "fegan"}
    comparison = {"base": base, "runs": {"toy": {"method": method}, "fegan": {"method": fegan}}, "devices": [2, 4]}
    (folder / "compare.yaml").write_text(yaml.safe_dump(comparison))
    found = summary(folder, "compare", "compare.yaml", "--local")
    assert (found["status"], found["metric"]["name"]) == ("finished", "fid_classifier")
    assert {run: list(rates) for run, rates in found["throughput"].items()} == {"toy": ["2", "4"], "fegan": ["2", "4"]}
    judged = {run: each["summary"]["best"]["mean"] for run, each in found["runs"].items()}
    assert found["common"] == max(judged.values())
    both, alone = (found["runs"][run]["summary"]["bytes_device"]["mean"] for run in ("fegan", "toy"))
    assert (both, alone) == (2 * 4 * (GENERATOR + DISCRIMINATOR), 2 * 4 * GENERATOR)


def test_mlflow_has_its_settings_its_metrics_its_events_and_its_generator(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = summary(folder, "run", "toy.yaml", "--local", "tracking.enabled=true", "evaluation.every=3")["run"]
    client = MlflowClient(f"sqlite:///{folder}/rayfed-runs/mlflow.db")
    [tracked] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    assert (tracked.info.run_name, tracked.info.status) == (f"{run}, seed 4", "FINISHED")
    assert (tracked.data.params["method.name"], tracked.data.params["method.beta"]) == ("toy_method:METHOD", "0.5")
    assert {"loss_g", "loss_d", "evaluation/fid_classifier", "sim_seconds"} <= tracked.data.metrics.keys()
    assert events(folder, run) == moves(folder, run)
    [model] = client.search_logged_models([tracked.info.experiment_id])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/rayfed-runs/mlflow.db")
    network = mlflow.pytorch.load_model(model.model_uri)
    noise = torch.randn(2, 100)
    ours = library.load(run, runs_dir=str(folder / "rayfed-runs")).generator()
    torch.testing.assert_close(network(noise), ours(noise))
