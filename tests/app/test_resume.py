"""`rayfed resume` with overrides: more rounds for a run that is finished, and what would change rounds that are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from rayfed.store import Commit, Store
from tests.states import last_commit
from tests.test_cli import TINY, Outcome, rayfed

TIMES = {"round_seconds", "seconds", "images_per_s", "updates_per_s", "epochs_per_s"}
CLIENT = {"name": "c", "devices": [{"name": f"{i}", "capacity": 4_000, "time_factor": 1.0 + i} for i in range(3)]}
METHODS: dict[str, dict[str, Any]] = {
    "fegan": {"fraction": 0.5, "moments": "keep"},
    "fl-vanilla": {"fraction": 0.5, "sampling": "proportional-fair"},
    "md-gan": {"swap_epochs": 0.05},
    "fsl-gan": {"clients": [CLIENT] * 4},
    "centralized": {},
}
Whole = tuple[Commit, list[Any], list[Any]]


def tree(method: str, **more: Any) -> dict[str, Any]:
    section = {"name": method, "batch": 4, "iterations": 2} | METHODS[method]
    twin = {"network": {"kind": "lan"}, "devices": [{"jitter": 0.3, "dropout": 0.1}]}
    return TINY | {"method": section, "evaluation": {"every": 0}, "twin": twin} | more


def begin(folder: Path, tree: dict[str, Any]) -> tuple[str, Store]:
    """A run in a folder of its own: its id, and its store."""
    folder.mkdir(exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    outcome = rayfed(folder, "run", "run.yaml", "--local", "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json["run"], Store(f"sqlite:///{folder}/rayfed-runs/rayfed.db")


def whole(store: Store) -> Whole:
    """The last commit of a store's one run, its history without the times, and what happened in it."""
    [record] = store.runs()
    history = [
        (round, {name: value for name, value in metrics.items() if name not in TIMES}, participants)
        for round, metrics, participants in store.history(record.id)
    ]
    return last_commit(store, record.id), history, list(store.events(record.id))


def assert_same(found: Whole, expected: Whole) -> None:
    """Weights, device states and histories, bit for bit."""
    (commit, *rest), (reference, *others) = found, expected
    assert commit.devices.keys() == reference.devices.keys() != set()
    pairs = [(commit.arrays, reference.arrays), (commit.tables, reference.tables)]
    pairs += [(commit.devices[device], reference.devices[device]) for device in commit.devices]
    for arrays, same in pairs:
        assert arrays.keys() == same.keys()
        assert [name for name in arrays if arrays[name].tobytes() != same[name].tobytes()] == []
    assert commit.facts == reference.facts
    assert rest == others


@pytest.mark.parametrize("method", list(METHODS))
def test_a_finished_run_with_more_rounds_is_the_run_that_had_them_from_the_start(tmp_path, method):
    _, straight = begin(tmp_path / "straight", tree(method, rounds=4))
    run, store = begin(tmp_path / "resumed", tree(method, rounds=2))
    before = whole(store)
    assert before[0].round == 2
    outcome = rayfed(tmp_path / "resumed", "resume", run, "rounds=4", "--local", "--json")
    assert (outcome.code, outcome.json["status"], outcome.json["rounds"]) == (0, "finished", 4), outcome.err
    assert_same(whole(store), whole(straight))
    record = store.run(run)
    assert (record.status, record.rounds, record.config["rounds"]) == ("finished", 4, 4)
    assert whole(store)[1][:3] == before[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Store]:
    """A run of two rounds."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, *begin(folder, tree("fegan", rounds=2))


ALLOWED = "rounds, stop.*, evaluation.*, tracking.*, resources.*, ray.*, store.keep, store.states, data.root alone"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *(
            (override, f"{override}: would change rounds that are committed; a resumed run takes {ALLOWED}")
            for override in (
                *("seed=5", "method.batch=8", "method.name=fl-vanilla", "devices.count=8", "data.partition=fegan"),
                *("data.name=mnist", "model.width=8", "wire=int8", "twin.network.kind=cell", "store.url=sqlite://"),
                *("runs_dir=elsewhere", "roundsx=4", "evaluation=1", "data.rooted=x", "store.keeper=1"),
            )
        ),
        ("rounds", "'rounds': an override is key=value, e.g. devices.count=80"),
        ("rounds=1", "rounds = 1: 2 rounds are committed; take at least as many"),
        ("rounds=0", "rounds = 0: must be greater than or equal to 1"),
        ("rounds=many", "rounds = 'many': must be a valid integer"),
        ("evaluation.evry=1", "evaluation.evry = 1: unknown key; did you mean evaluation.every?"),
    ],
)
def test_what_would_change_committed_rounds_is_refused_in_one_line(finished, override, message):
    folder, run, store = finished
    before, record = whole(store), store.run(run)
    outcome = rayfed(folder, "resume", run, "rounds=4", override, "--local")
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")
    assert store.run(run) == record
    assert_same(whole(store), before)


@pytest.mark.parametrize("overrides", [[], ["rounds=2"], ["resources.hosts=2"]])
def test_without_more_rounds_a_finished_run_has_nothing_to_resume(finished, overrides):
    folder, run, _ = finished
    outcome = rayfed(folder, "resume", run, *overrides, "--local")
    message = f"run {run} is finished (2 rounds); there is nothing to resume"
    assert outcome == Outcome(2, "", f"rayfed: {message}; `rayfed resume {run} rounds=4` goes on with it\n")


def test_an_interrupted_run_can_end_where_it_stands(tmp_path):
    """Of four rounds two are done, and two is what it is told to have: nothing is trained, the run is finished."""
    run, store = begin(tmp_path, tree("fegan", rounds=2))
    store.set_config(run, store.run(run).config | {"rounds": 4})
    store.set_status(run, "interrupted")
    before = whole(store)
    outcome = rayfed(tmp_path, "resume", run, "rounds=2", "--local", "--json")
    assert (outcome.code, outcome.json["status"], outcome.json["rounds"]) == (0, "finished", 2), outcome.err
    assert store.run(run).status == "finished"
    assert_same(whole(store), before)


def test_a_resumed_run_may_be_evaluated_and_kept_otherwise(tmp_path, cache):
    run, store = begin(tmp_path, tree("fegan", rounds=1))
    overrides = ["rounds=3", "evaluation.every=1", "evaluation.samples=64", "evaluation.extractor=classifier"]
    outcome = rayfed(tmp_path, "resume", run, *overrides, "store.keep=1", "--local")
    assert outcome.code == 0, outcome.err
    history = store.history(run)
    assert [round for round, metrics, _ in history if "fid_classifier" in metrics] == [1, 2, 3]
    assert store.latest(run, until=2) is None
    assert store.run(run).config["store"]["keep"] == 1


def test_in_mlflow_a_longer_run_is_one_run_with_every_round_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run, store = begin(tmp_path, tree("fegan", rounds=1, tracking={"enabled": True}))
    outcome = rayfed(tmp_path, "resume", run, "rounds=3", "--local", "--json")
    assert outcome.code == 0, outcome.err
    client = MlflowClient(f"sqlite:///{tmp_path}/rayfed-runs/mlflow.db")
    experiment = client.get_experiment_by_name("rayfed")
    [tracked] = client.search_runs([experiment.experiment_id])
    assert (tracked.info.run_name, tracked.info.status) == (f"{run}, seed 0", "FINISHED")
    points = [(p.step, p.value) for p in client.get_metric_history(tracked.info.run_id, "loss_d")]
    assert points == [(round, metrics["loss_d"]) for round, metrics, _ in store.history(run)[1:]]
    assert [step for step, _ in points] == [1, 2, 3]
    assert json.loads(outcome.out)["mlflow"] is not None


def test_a_run_that_is_tracked_from_a_resumption_on_is_one_run_in_mlflow_with_every_round(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run, store = begin(tmp_path, tree("fegan", rounds=1))
    for overrides in (["rounds=2", "tracking.enabled=true"], ["rounds=3"]):
        outcome = rayfed(tmp_path, "resume", run, *overrides, "--local", "--json")
        assert outcome.code == 0, outcome.err
    client = MlflowClient(f"sqlite:///{tmp_path}/rayfed-runs/mlflow.db")
    [tracked] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    points = [(p.step, p.value) for p in client.get_metric_history(tracked.info.run_id, "loss_d")]
    assert points == [(round, metrics["loss_d"]) for round, metrics, _ in store.history(run)[1:]]
    assert [step for step, _ in points] == [1, 2, 3]


JOINING = """
import os, sys
import rayfed
from rayfed.errors import UserError
try:
    rayfed.resume(sys.argv[1], iter(["rounds=4", "ray.address=127.0.0.1:9"]), runs_dir=sys.argv[2], progress=False)
except UserError as error:
    print(error)
print(os.environ.get("RAY_AUTH_MODE"))
"""


def test_a_run_that_goes_on_in_a_cluster_brings_no_token_of_a_private_ray(finished):
    """Nothing listens on port 9; the cluster's authentication would be the user's to set."""
    folder, run, store = finished
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", JOINING, run, str(folder / "rayfed-runs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    message, mode = done.stdout.splitlines()
    assert message.startswith("ray.address = '127.0.0.1:9': no Ray cluster answers there (")
    assert mode == "None"
    assert store.run(run).config["ray"]["address"] is None
