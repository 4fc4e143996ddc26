"""The commands in this process, through the entry point: exit codes, and every message a user can cause."""

import io
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from rayfed import cli
from rayfed.engine.lease import driving
from rayfed.store import Store

TINY: dict[str, Any] = {
    "rounds": 2,
    "method": {"name": "fegan", "fraction": 0.5, "iterations": 1, "batch": 4},
    "devices": {"count": 4},
    "data": {"partition": "iid"},
    "model": {"name": "dcgan28", "width": 4},
    "evaluation": {"every": 1, "extractor": "classifier", "samples": 64},
    "tracking": {"enabled": False},
}
METHODS = [
    "asyn-dgan",
    "centralized",
    "fl-vanilla",
    "fedgan",
    "fedavg",
    "centralized-classifier",
    "fegan",
    "fsl-gan",
    "iotsl",
    "md-gan",
    "f2u",
    "f2a",
    "ren",
    "split-learning",
    "splitfed",
]
DATASETS = [
    "fashion-mnist-6k",
    "fashion-mnist",
    "mnist",
    "cifar10",
    "celeba",
    "imagefolder:PATH",
    "npz:FILE",
    "package.module:FUNCTION",
]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def rayfed(folder: Path, *arguments: str) -> Outcome:
    """One command as the shell would run it in `folder`."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["rayfed", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return Outcome(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Made:
    """A folder in which one tiny run has finished."""

    folder: Path
    run: str
    outcome: Outcome

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.folder}/rayfed-runs/rayfed.db")

    def fid(self, round: int) -> float:
        return self.store.history(self.run)[round][1]["fid_classifier"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The classifier that judges it is trained in a cache of the tests."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        outcome = rayfed(folder, "run", "tiny.yaml", "--local", "--json")
        assert outcome.code == 0, outcome.err
        yield Made(folder, outcome.json["run"], outcome)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with a configuration and nothing else."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run nope.yaml", "nope.yaml: cannot be read (No such file or directory)"),
        ("run .", ".: cannot be read (Is a directory)"),
        ("run tiny.yaml rounds", "'rounds': an override is key=value, e.g. devices.count=80"),
        ("run tiny.yaml method.fration=1", "method.fration = 1: unknown key; did you mean method.fraction?"),
        ("run tiny.yaml rounds=many", "rounds = 'many': must be a valid integer"),
        ("run tiny.yaml rounds=0", "rounds = 0: must be greater than or equal to 1"),
        (
            "run tiny.yaml method.name=fedsgd",
            f"method.name = 'fedsgd': must be one of {', '.join(METHODS)}, or package.module:METHOD",
        ),
        (
            "run tiny.yaml method.fraction=0.1",
            "method.fraction = 0.1: C*K = 0.1 * 4 = 0.4 devices a round is less than one; with devices.count = 4 it "
            "must be at least 0.25",
        ),
        (
            "run tiny.yaml resources.device_host.num_gpus=1.5",
            "resources.device_host.num_gpus = 1.5: must be whole above 1 (Ray has no fraction of several), e.g. 1 or "
            "0.5",
        ),
        (
            "run tiny.yaml data.partition=fegan data.max_class=11 --local",
            "data.max_class = 11: fashion-mnist-6k has 10 classes; use at most 10",
        ),
        (
            "run tiny.yaml data.partition=classes data.classes_per_device=11 --local",
            "data.classes_per_device = 11: fashion-mnist-6k has 10 classes; use at most 10",
        ),
        (
            "run tiny.yaml method.batch=1501 --local",
            "method.batch = 1501: device 0 holds 1500 images; use at most 1500",
        ),
        (
            "run tiny.yaml devices.count=6000 method.batch=2 --local",
            "method.batch = 2: device 0 holds 1 image; use at most 1",
        ),
        (
            "run tiny.yaml data.name=fashion --local",
            f"data.name = 'fashion': unknown data set; use one of {', '.join(DATASETS)}",
        ),
        (
            "run tiny.yaml data.name=mnist data.root=nowhere --local",
            "data.root = nowhere: no such folder; leave it out to have the data downloaded",
        ),
        (
            "run tiny.yaml evaluation.extractor=auto evaluation.weights=no.pth --local",
            "evaluation.weights = no.pth: no such file; it must be pytorch-fid's pt_inception-2015-12-05-6726825d.pth",
        ),
    ],
)
@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_bad_configuration_is_one_line_and_leaves_nothing_behind(empty, arguments, message, flag):
    outcome = rayfed(empty, *arguments.split(), *flag.split())
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")
    assert [path.name for path in empty.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("store.url=nonsense", "it must be a SQLAlchemy URL such as sqlite:///runs/store.db or "),
        ("store.url=sqlite:////dev/null/x.db", "it must be a SQLAlchemy URL such as sqlite:///runs/store.db or "),
        ("runs_dir=/dev/null/runs", "it must be a SQLAlchemy URL such as sqlite:///runs/store.db or "),
        ("tracking.uri=http://127.0.0.1:9", "it must be a server that runs such as http://127.0.0.1:5000, or "),
        ("tracking.uri=sqlite:////dev/null/x.db", "it must be a server that runs such as http://127.0.0.1:5000, or "),
        ("tracking.uri=nonsense", "it must be a server that runs such as http://127.0.0.1:5000, or "),
    ],
)
def test_an_unusable_database_or_server_is_one_line_before_anything_starts(empty, override, advice):
    outcome = rayfed(empty, "run", "tiny.yaml", "--local", "tracking.enabled=true", override)
    key = "store.url" if override.startswith("runs_dir") else override.partition("=")[0]
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"rayfed: {key} = '")
    assert ": cannot be used (" in outcome.err
    assert advice in outcome.err
    assert outcome.err.count("\n") == 1
    runs = empty / "rayfed-runs" / "rayfed.db"
    assert not runs.exists() or Store(f"sqlite:///{runs}").runs() == []


@pytest.mark.parametrize("command", ["list", "resume a", "sample a", "eval a", "export a", "rm a"])
def test_without_a_runs_folder_every_command_says_where_it_looked(empty, command):
    message = f"no runs in {empty}/rayfed-runs; name their folder with --runs-dir or their database with --store"
    assert rayfed(empty, *command.split()) == Outcome(2, "", f"rayfed: {message}\n")
    message = f"no runs in {empty}/other; name their folder with --runs-dir or their database with --store"
    assert rayfed(empty, *command.split(), "--runs-dir", "other") == Outcome(2, "", f"rayfed: {message}\n")


@pytest.mark.parametrize("command", ["resume", "sample", "eval", "export", "rm"])
def test_an_unknown_run_comes_with_the_closest_one(made, command):
    outcome = rayfed(made.folder, command, f"{made.run}0")
    url = f"sqlite:///{made.folder}/rayfed-runs/rayfed.db"
    message = f"no run '{made.run}0' in {url}; `rayfed list` shows the runs there are, --runs-dir names another folder"
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")


def test_a_finished_run_is_not_resumed(made):
    outcome = rayfed(made.folder, "resume", made.run, "--local")
    message = f"run {made.run} is finished (2 rounds); there is nothing to resume"
    more = f"`rayfed resume {made.run} rounds=4` goes on with it"
    assert outcome == Outcome(2, "", f"rayfed: {message}; {more}\n")


def test_a_run_that_goes_on_elsewhere_is_not_resumed(made):
    """Its driver is this process."""
    made.store.set_status(made.run, "running")
    try:
        with driving(made.store, made.run):
            outcome = rayfed(made.folder, "resume", made.run, "--local")
    finally:
        made.store.set_status(made.run, "finished")
    message = f"run {made.run} is still running in process {os.getpid()} on {socket.gethostname()}; stop that first"
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")


def test_a_runs_summary_is_clean_json(made):
    summary = made.outcome.json
    assert made.outcome.out.count("\n") == 1
    assert summary.pop("images_per_s") > 0
    first, last = made.fid(1), made.fid(2)
    assert summary == {
        "run": made.run,
        "status": "finished",
        "rounds": 2,
        "fid_classifier": {"first": first, "best": min(first, last), "last": last},
        "bytes_up_per_round": 2 * 360_288,  # two devices, 90,072 float32 values
        "bytes_down_per_round": 2 * 360_288,
        "samples": f"rayfed-runs/{made.run}/samples-00002.png",
        "mlflow": None,
        "resume": None,
    }
    assert made.run.startswith("fegan-")
    names = {path.name for path in (made.folder / "rayfed-runs" / made.run).iterdir()}
    samples = {f"samples-0000{round}.png" for round in (0, 1, 2)}
    assert names == {"devices.csv", "partition.png", "run.png", "seen_class.csv", "seen_class.png", "states", *samples}


def test_progress_goes_to_stderr_and_the_closing_table_to_stdout(made, tmp_path):
    outcome = rayfed(made.folder, "run", "tiny.yaml", "--local", f"runs_dir={tmp_path}/other")
    assert outcome.code == 0
    assert "round 2/2  " in outcome.err
    labels = [line.partition("  ")[0] for line in outcome.out.strip().splitlines()]
    assert labels == ["run", "FID (classifier's features)", "images/s", "per round", "samples"]
    assert " (finished, 2 rounds)\n" in outcome.out
    assert "0.72 MB up, 0.72 MB down\n" in outcome.out


def test_list_shows_every_run(made):
    [row] = rayfed(made.folder, "list", "--json").json
    began = datetime.fromisoformat(row.pop("began"))
    assert timedelta(0) <= datetime.now(UTC) - began < timedelta(minutes=10)
    assert row == {
        "run": made.run,
        "comparison": None,
        "name": None,
        "method": "fegan",
        "data": "fashion-mnist-6k",
        "seed": 0,
        "state": "finished",
        "rounds": 2,
        "of": 2,
        "seconds": round(sum(each[1]["seconds"] for each in made.store.history(made.run)[1:]), 1),
        "best_fid_classifier": round(min(made.fid(1), made.fid(2)), 3),
        "last_fid_classifier": round(made.fid(2), 3),
    }
    above, header, line = rayfed(made.folder, "list").out.splitlines()
    assert above.split() == ["fid_classifier", "fid_classifier"]
    assert header.split() == ["run", "method", "data", "seed", "state", "rounds", "began", "took", "best", "last"]
    assert line.split()[:6] == [made.run, "fegan", "fashion-mnist-6k", "0", "finished", "2"]
    assert line.split()[6:8] == f"{began.astimezone():%Y-%m-%d %H:%M}".split()


def test_list_tells_a_killed_run_from_a_running_one(made):
    made.store.set_status(made.run, "running")
    try:
        with driving(made.store, made.run):
            [running] = rayfed(made.folder, "list", "--json").json
        [killed] = rayfed(made.folder, "list", "--json").json
    finally:
        made.store.set_status(made.run, "finished")
    assert (running["state"], killed["state"]) == ("running", "killed")


def test_list_reads_the_database_it_is_given(made, tmp_path):
    url = f"sqlite:///{made.folder}/rayfed-runs/rayfed.db"
    assert [row["run"] for row in rayfed(tmp_path, "list", "--store", url, "--json").json] == [made.run]


def test_list_of_an_empty_database(tmp_path):
    url = f"sqlite:///{tmp_path}/rayfed-runs/rayfed.db"
    Store(url).close()
    assert rayfed(tmp_path, "list") == Outcome(0, f"no runs in {url}; `rayfed run jobs/demo.yaml` makes one\n", "")
    assert rayfed(tmp_path, "list", "--json").json == []


def test_sample_draws_a_grid(made, tmp_path):
    """28x28 enlarged three times, 2 pixels between and around: 5 images are 3 columns in 2 rows."""
    path = tmp_path / "new" / "grid.png"
    outcome = rayfed(made.folder, "sample", made.run, "--n", "5", "--out", str(path))
    assert outcome == Outcome(0, f"{path}\n", "")
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("L", (3 * 86 + 2, 2 * 86 + 2))
    drawn = path.read_bytes()
    for seed, same in (("0", True), ("1", False)):
        again = tmp_path / f"{seed}.png"
        rayfed(made.folder, "sample", made.run, "--n", "5", "--out", str(again), "--seed", seed)
        assert (again.read_bytes() == drawn) == same


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("grid.jpg", "--out grid.jpg: must end in .png"),
        ("/dev/null/grid.png", "--out /dev/null/grid.png: cannot be written (File exists)"),
        ("folder.png", "--out folder.png: cannot be written (Is a directory)"),
    ],
)
def test_sample_refuses_a_file_it_cannot_write(made, out, message):
    (made.folder / "folder.png").mkdir(exist_ok=True)
    assert rayfed(made.folder, "sample", made.run, "--out", out) == Outcome(2, "", f"rayfed: {message}\n")


def test_eval_gives_the_fid_that_the_run_had(made):
    """The same generator, noise and images: the same figure, digit for digit."""
    outcome = rayfed(made.folder, "eval", made.run, "--json")
    assert outcome.json == {"run": made.run, "round": 2, "fid_classifier": made.fid(2)}
    header, line = rayfed(made.folder, "eval", made.run).out.splitlines()
    assert header.split() == ["run", "round", "fid", "classifier"]
    assert line.split() == [made.run, "2", f"{made.fid(2):.4g}"]


def test_eval_takes_other_settings_of_the_evaluation_and_no_others(made):
    fewer = rayfed(made.folder, "eval", made.run, "evaluation.samples=32", "--json").json
    assert fewer["fid_classifier"] != made.fid(2)
    outcome = rayfed(made.folder, "eval", made.run, "model.width=8")
    message = "model.width=8: would change the run itself; only evaluation.* and data.root can change"
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")


@pytest.mark.parametrize(("command", "names"), [("methods", METHODS), ("datasets", DATASETS)])
def test_what_there_is_to_choose_from(tmp_path, command, names):
    outcome = rayfed(tmp_path, command)
    assert [line.split()[0] for line in outcome.out.splitlines()] == names
    pairs = rayfed(tmp_path, command, "--json").json
    assert list(pairs) == names
    assert all(about in outcome.out for about in pairs.values())


def test_without_a_command_there_is_help(tmp_path):
    outcome = rayfed(tmp_path)
    commands = ("run", "resume", "compare", "plan", "list", "sample", "eval", "export", "rm", "methods", "datasets")
    for command in commands:
        assert f" {command} " in outcome.out


@pytest.mark.parametrize("arguments", ["run", "train tiny.yaml", "sample a --n 0", "list --jsn"])
def test_a_misused_command_shows_its_usage(empty, arguments):
    outcome = rayfed(empty, *arguments.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage: " in outcome.err
    assert "Traceback" not in outcome.err
