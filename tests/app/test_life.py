"""A run's life through the command line: shown, listed, its best round drawn and exported, begun from, removed."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import rayfed as library
from rayfed.store import Store
from tests.test_cli import TINY, Outcome, rayfed

pytestmark = pytest.mark.usefixtures("cache")

STEPS = {"name": "fl-vanilla", "fraction": 0.5, "iterations": 1, "batch": 4}


@dataclass(frozen=True)
class Made:
    """A folder with a run of four rounds, judged after each, and how its command ended."""

    folder: Path
    run: str
    outcome: Outcome

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.folder}/rayfed-runs/rayfed.db")

    @property
    def fids(self) -> dict[int, float]:
        history = self.store.history(self.run)
        return {round: metrics["fid_classifier"] for round, metrics, _ in history if "fid_classifier" in metrics}

    @property
    def best(self) -> int:
        return min(self.fids, key=self.fids.__getitem__)


def begin(folder: Path, *arguments: str, **more: Any) -> Outcome:
    (folder / "run.yaml").write_text(yaml.safe_dump(TINY | {"method": STEPS} | more))
    outcome = rayfed(folder, "run", "run.yaml", "--local", "--json", *arguments)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Made:
    """With so high a learning rate the figures go up and down: the best round is not the last."""
    folder = tmp_path_factory.mktemp("life")
    model = TINY["model"] | {"lr": 0.05}
    outcome = begin(folder, rounds=6, model=model, method=STEPS | {"iterations": 4}, seed=0)
    made = Made(folder, outcome.json["run"], outcome)
    assert made.best < 5, "the test needs a best round whose state is not kept for restoring"
    return made


def test_the_version_and_the_shells_completion_are_there(tmp_path):
    assert rayfed(tmp_path, "--version") == Outcome(0, f"rayfed-gan {version('rayfed-gan')}\n", "")
    shown = rayfed(tmp_path, "--help").out
    assert "--install-completion" in shown
    assert "--show-completion" in shown


def test_a_shell_completes_the_ids_of_runs(made):
    """As bash asks for it: the words so far, and the one that the cursor is in."""
    words = {"COMP_WORDS": f"rayfed show {made.run[:6]}", "COMP_CWORD": "2", "_RAYFED_COMPLETE": "complete_bash"}
    program = Path(sys.executable).with_name("rayfed")
    found = subprocess.run(
        [program], cwd=made.folder, env=os.environ | words, capture_output=True, text=True, timeout=60
    )
    assert found.stdout.split() == [made.run]


def test_show_tells_a_runs_configuration_history_and_files(made):
    found = rayfed(made.folder, "show", made.run, "--json").json
    assert (found["summary"]["run"], found["summary"]["status"], found["best_round"]) == (
        made.run,
        "finished",
        made.best,
    )
    assert {row["round"]: row["fid_classifier"] for row in found["history"]} == made.fids
    assert found["config"]["method"]["name"] == "fl-vanilla"
    assert found["changed"]["model"] == {"name": "dcgan28", "width": 4, "lr": 0.05}
    assert set(found["kept"]) == {made.best, 5, 6}
    assert {Path(path).name for path in found["artifacts"]} >= {"run.png", "partition.png", "devices.csv"}
    text = rayfed(made.folder, "show", made.run).out
    for line in (rf"run +{made.run} \(finished, 6 rounds\)", rf"best round +{made.best}", r"  lr: 0.05", "rounds: 6"):
        assert re.search(rf"^{line}$", text, re.MULTILINE), text
    table = [line.split() for line in text.splitlines() if line.lstrip()[:1].isdigit()]
    assert [int(cells[0]) for cells in table] == [1, 2, 3, 4, 5, 6]


def test_what_show_says_of_the_configuration_makes_the_same_run(made, tmp_path):
    changed = rayfed(made.folder, "show", made.run, "--json").json["changed"]
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(changed))
    outcome = rayfed(tmp_path, "run", "again.yaml", "--local", "--json")
    assert (outcome.code, outcome.json["fid_classifier"]) == (0, made.outcome.json["fid_classifier"])


def test_the_best_rounds_generator_is_kept_and_drawn_exported_and_judged(made, tmp_path):
    """Judged again, it has the figure that it had; the drawn grids of the best and of its number are the same."""
    again = rayfed(made.folder, "eval", made.run, "--round", "best", "--json").json
    assert again == {"run": made.run, "round": made.best, "fid_classifier": made.fids[made.best]}
    grids = []
    for round in ("best", str(made.best), "last"):
        path = tmp_path / f"{round}.png"
        assert rayfed(made.folder, "sample", made.run, "--round", round, "--out", str(path)).code == 0
        with Image.open(path) as image:
            grids.append(np.asarray(image))
    assert np.array_equal(grids[0], grids[1])
    assert not np.array_equal(grids[0], grids[2])
    path = tmp_path / "best.pt2"
    assert rayfed(made.folder, "export", made.run, "--round", "best", "--out", str(path)).code == 0
    z = torch.randn(3, 100)
    generator = library.load(made.run, runs_dir=str(made.folder / "rayfed-runs")).generator("best")
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(path).module()(z), generator(z))


@pytest.mark.parametrize("command", ["sample", "export", "eval"])
def test_rounds_that_are_not_kept_or_no_rounds_are_refused(made, command):
    gone = next(round for round in (1, 2, 3) if round != made.best)
    kept = ", ".join(map(str, sorted({made.best, 5, 6})))
    message = f"run {made.run}: round {gone} is not kept; kept are {kept}"
    assert rayfed(made.folder, command, made.run, "--round", str(gone)) == Outcome(2, "", f"rayfed: {message}\n")
    message = "--round first: must be last, best, or a round's number"
    assert rayfed(made.folder, command, made.run, "--round", "first") == Outcome(2, "", f"rayfed: {message}\n")


def test_without_an_evaluation_no_round_is_the_best(tmp_path):
    run = begin(tmp_path, evaluation={"every": 0}, rounds=1).json["run"]
    message = f"run {run}: no evaluation yet, so no round is the best; take the last"
    assert rayfed(tmp_path, "export", run, "--round", "best") == Outcome(2, "", f"rayfed: {message}\n")


def test_a_grid_is_not_written_over_a_file(made, tmp_path):
    path = tmp_path / "mine.png"
    path.write_text("dear to me")
    message = f"--out {path}: is there already; name another file or remove it"
    assert rayfed(made.folder, "sample", made.run, "--out", str(path)) == Outcome(2, "", f"rayfed: {message}\n")
    assert path.read_text() == "dear to me"


def test_the_runs_folder_may_come_from_the_environment(made, tmp_path, monkeypatch):
    message = f"no runs in {tmp_path / 'rayfed-runs'}; name their folder with --runs-dir or their database with --store"
    assert rayfed(tmp_path, "list") == Outcome(2, "", f"rayfed: {message}\n")
    monkeypatch.setenv("RAYFED_RUNS_DIR", str(made.folder / "rayfed-runs"))
    assert [row["run"] for row in rayfed(tmp_path, "list", "--json").json] == [made.run]
    monkeypatch.setenv("RAYFED_RUNS_DIR", str(tmp_path / "here"))
    run = begin(tmp_path, rounds=1, evaluation={"every": 0}).json["run"]
    assert (tmp_path / "here" / run).is_dir()
    assert library.load(run).run_id == run
    other = rayfed(tmp_path, "show", made.run)
    url = f"sqlite:///{tmp_path}/here/rayfed.db"
    message = f"no run '{made.run}' in {url}; `rayfed list` shows the runs there are, --runs-dir names another folder"
    assert other == Outcome(2, "", f"rayfed: {message}\n")


def test_the_store_and_the_states_may_come_from_the_environment(made, tmp_path, monkeypatch):
    """The store's URL may hold a password: no output and no configuration has it."""
    url = f"sqlite:///{tmp_path}/a-store-elsewhere.db"
    monkeypatch.setenv("RAYFED_STORE_URL", url)
    monkeypatch.setenv("RAYFED_STORE_STATES", str(tmp_path / "kept"))
    outcome = begin(tmp_path, rounds=1, evaluation={"every": 0})
    run = outcome.json["run"]
    assert (tmp_path / "kept" / run).is_dir()
    assert not (tmp_path / "rayfed-runs" / "rayfed.db").exists()
    assert [row["run"] for row in rayfed(tmp_path, "list", "--json").json] == [run]
    shown = rayfed(tmp_path, "show", run, "--json")
    assert shown.json["config"]["store"]["states"] == str(tmp_path / "kept")
    resumed = rayfed(tmp_path, "resume", run, "rounds=2", "--local", "--json")
    assert (resumed.code, resumed.json["rounds"]) == (0, 2), resumed.err
    assert library.load(run).history[-1][0] == 2
    assert "a-store-elsewhere" not in outcome.out + outcome.err + shown.out + shown.err
    in_folder = f"sqlite:///{made.folder}/rayfed-runs/rayfed.db"
    assert [row["run"] for row in rayfed(tmp_path, "list", "--json", "--store", in_folder).json][-1] == made.run
    assert rayfed(tmp_path, "rm", run).code == 0
    assert not (tmp_path / "kept" / run).exists()


def test_a_store_of_the_environment_that_cannot_be_used_is_told_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYFED_STORE_URL", "postgresql+nodriver://ann:se/cr:et@host/runs")
    outcome = rayfed(tmp_path, "list")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("rayfed: store.url = 'postgresql+nodriver://ann:***@host/runs': cannot be used (")
    assert "se/cr" not in outcome.err


def arrays(folder: Path, run: str, round: int) -> dict[str, np.ndarray]:
    commit = Store(f"sqlite:///{folder}/rayfed-runs/rayfed.db").latest(run, until=round)
    assert commit is not None
    return commit.arrays


def test_a_run_begins_with_the_networks_of_another(made):
    """Before its first round it has the other's last networks; another method takes of them what its server has."""
    keep = ["evaluation.every=0", "store.keep=3", "rounds=1"]
    last = arrays(made.folder, made.run, 6)
    for method, names in (("fl-vanilla", ["discriminator", "generator"]), ("md-gan", ["generator"])):
        method_of = [f"method.name={method}", f"init_from={made.run}"]
        outcome = rayfed(made.folder, "run", "run.yaml", "--local", "--json", *method_of, *keep)
        assert f"begins with the {' and '.join(names[::-1])} of {made.run}" in outcome.err.splitlines()
        first = arrays(made.folder, outcome.json["run"], 0)
        assert sorted(first.keys() & last.keys()) == names
        for name in names:
            assert first[name].tobytes() == last[name].tobytes()
        rayfed(made.folder, "rm", outcome.json["run"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init_from=nobody"], "no run 'nobody' in sqlite:"),
        (["model.width=8"], "init_from = 'RUN': its generator has 85,687 values (model.name = dcgan28), this run's "),
    ],
)
def test_networks_that_do_not_fit_are_refused(made, arguments, message):
    outcome = rayfed(made.folder, "run", "run.yaml", "--local", f"init_from={made.run}", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines()[-1].startswith(f"rayfed: {message.replace('RUN', made.run)}")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, cache: None) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("compared")
    own = {name: value for name, value in TINY.items() if name not in ("method", "rounds")}
    runs = {"all": {"method": STEPS | {"fraction": 1.0}}, "half": {"method": STEPS}}
    (folder / "both.yaml").write_text(yaml.safe_dump({"base": own | {"rounds": 1}, "runs": runs, "seeds": [0, 1]}))
    outcome = rayfed(folder, "compare", "both.yaml", "--local", "--json")
    assert outcome.code == 0, outcome.err
    return folder, outcome.json


def test_a_comparison_stands_in_the_list_above_its_runs(compared):
    folder, document = compared
    single = begin(folder, rounds=1, evaluation={"every": 0}).json["run"]
    rows = rayfed(folder, "list", "--json").json
    ids = [document["runs"][run]["ids"][seed] for run in ("all", "half") for seed in ("0", "1")]
    assert [row["run"] for row in rows] == [document["comparison"], *ids, single]
    first = rows[0]
    assert (first["method"], first["seed"], first["rounds"], first["of"], first["state"]) == (
        "comparison of 4",
        "0, 1",
        4,
        4,
        "finished",
    )
    assert [(row["comparison"], row["name"], row["seed"]) for row in rows[1:5]] == [
        (document["comparison"], name, seed) for name in ("all", "half") for seed in (0, 1)
    ]
    for row in rows[1:5]:
        [fid] = document["runs"][row["name"]]["series"][str(row["seed"])]["fid_classifier"]
        assert row["best_fid_classifier"] == row["last_fid_classifier"] == round(fid, 3)
    assert rows[5]["best_fid_classifier"] is None
    lines = rayfed(folder, "list").out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == [row["run"] for row in rows]
    assert [line.startswith("  ") for line in lines] == [False, True, True, True, True, False]


def test_rm_removes_a_comparison_with_its_runs(compared):
    folder, document = compared
    before = [row["run"] for row in rayfed(folder, "list", "--json").json]
    ids = [run_id for run in document["runs"].values() for run_id in run["ids"].values()]
    outcome = rayfed(folder, "rm", document["comparison"])
    assert outcome == Outcome(0, f"removed {document['comparison']} and its runs {', '.join(ids)}\n", "")
    after = [row["run"] for row in rayfed(folder, "list", "--json").json]
    assert after == [run for run in before if run not in (document["comparison"], *ids)]
    assert not (folder / "rayfed-runs" / document["comparison"]).exists()
    assert not any((folder / "rayfed-runs" / run_id).exists() for run_id in ids)
    again = rayfed(folder, "rm", document["comparison"])
    assert (again.code, again.err.startswith(f"rayfed: no run '{document['comparison']}' in ")) == (2, True)


def test_evaluations_that_were_pending_at_a_kill_are_made_again(made):
    """As if killed before round 4's and the last round's evaluations were heard; the figures are those of before."""
    store, fids = made.store, made.fids
    from rayfed.engine.checkpoint import checkpoint_of
    from rayfed.methods.spec import method_of

    config = library.load(made.run, runs_dir=str(made.folder / "rayfed-runs")).config
    spec = method_of(config)
    store.create_run("killed", config.model_dump(mode="json"), store.run(made.run).facts)
    for round in (0, 5, 6):
        commit = store.latest(made.run, until=round)
        if commit is not None and commit.round == round:
            metrics = {name: value for name, value in commit.metrics.items() if name != "fid_classifier"}
            outcome = spec.task.outcome(checkpoint_of(commit, spec).state.arrays)
            replaced = {**vars(commit), "metrics": metrics, "outcome": outcome}
            store.commit("killed", type(commit)(**replaced), keep=2)
    store.set_status("killed", "interrupted")
    runs = made.folder / "rayfed-runs"
    shutil.copytree(runs / made.run / "states", runs / "killed" / "states")
    outcome = rayfed(made.folder, "resume", "killed", "--local", "--json")
    assert outcome.code == 0, outcome.err
    found = {round: metrics["fid_classifier"] for round, metrics, _ in store.history("killed")}
    assert found == {5: fids[5], 6: fids[6]}
    assert store.outcomes("killed") == [min((5, 6), key=fids.__getitem__)]
    store.remove("killed")


def test_json_of_show_is_one_document(made):
    assert json.loads(rayfed(made.folder, "show", made.run, "--json").out)["stop_reason"] is None
