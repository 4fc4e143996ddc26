"""`rayfed compare` in this process, through the entry point: what it refuses, and a small one read back from MLflow."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from rayfed import compare
from rayfed import run as run_alone
from rayfed.app.result import store_url
from rayfed.config import Comparison, load_comparison, parse
from rayfed.errors import UserError
from rayfed.store import Store
from tests.test_cli import Outcome, rayfed

FEGAN: dict[str, Any] = {"method": {"name": "fegan", "fraction": 0.5, "iterations": 1}}
MD_GAN: dict[str, Any] = {"method": {"name": "md-gan", "iterations": 1}, "rounds": 1}
SMALL: dict[str, Any] = {
    "base": {
        "rounds": 2,
        "devices": {"count": 4},
        "data": {"partition": "iid"},
        "method": {"batch": 4},
        "model": {"name": "dcgan28", "width": 4},
        "evaluation": {"every": 1, "extractor": "classifier", "samples": 64},
    },
    "runs": {"FeGAN (C=0.5)": FEGAN, "MD-GAN": MD_GAN},
    "seeds": [0, 1],
    "devices": [2, 4],
}


def refused(folder: Path, tree: dict[str, Any], *overrides: str) -> str:
    """The one line, which leaves nothing behind."""
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))
    outcome = rayfed(folder, "compare", "c.yaml", "--local", *overrides)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert [path.name for path in folder.iterdir()] == ["c.yaml"]
    return outcome.err.removeprefix("rayfed: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": {}}, "runs = {}: must have at least one entry"),
        ({"seeds": []}, "seeds = []: must have at least one entry"),
        ({"seeds": [1, 2, 1]}, "seeds = [1, 2, 1]: 1 is there twice"),
        ({"seeds": [-1]}, "seeds.0 = -1: must be greater than or equal to 0"),
        ({"devices": [0]}, "devices.0 = 0: must be greater than or equal to 1"),
        ({"seed": [1]}, "seed = [1]: unknown key; did you mean seeds?"),
        ({"base": {"zebra": 1}}, "run FeGAN (C=0.5): zebra = 1: unknown key; known keys: data, devices, evaluation, "),
        ({"runs": {"A": {"method": {"name": "gan"}}}}, "run A: method.name = 'gan': must be one of asyn-dgan, "),
        ({"runs": {"A": None}}, "runs.A = None: must be a section of `key: value` lines"),
        (
            {"runs": {"A": FEGAN, "B": FEGAN | {"data": {"name": "mnist"}}}},
            "runs.B.data = {'name': 'mnist'}: runs are compared on the same data, set under base; they may differ in "
            "devices, method, model, resources, rounds and wire alone",
        ),
        ({"runs": {"A": FEGAN | {"seed": 1}}}, "runs.A.seed = 1: runs are compared on the same seed, set under base; "),
        (
            {"devices": [1]},
            "run FeGAN (C=0.5), throughput by `devices`: method.fraction = 0.5: C*K = 0.5 * 1 = 0.5 devices a round ",
        ),
        (
            {"runs": {"A": FEGAN, "B": FEGAN | {"model": {"name": "dcgan32"}}}},
            "model.name: FID of images of different sizes does not compare: A (28x28) and B (32x32)",
        ),
        (
            {"runs": {"A": {"method": FEGAN["method"] | {"batch": 1501}}}},
            "run A, seed 0: method.batch = 1501: device 0 holds 1500 images; use at most 1500",
        ),
        (
            {"base": SMALL["base"] | {"twin": {"network": {"kind": "cell"}}}, "runs": {"swapping": MD_GAN}},
            "run swapping, seed 0: ",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, change, message):
    assert refused(tmp_path, SMALL | change).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rounds=0", "run FeGAN (C=0.5): rounds = 0: must be greater than or equal to 1"),
        ("rounds", "'rounds': an override is key=value, e.g. devices.count=80"),
        ("method.name=fegan", "method.name=fegan: would change nothing, every run has its own method.name"),
        ("seed=1", "seed=1: a comparison has seeds; use seeds=[1]"),
        ("seed=[1, 2]", "seed=[1, 2]: a comparison has seeds; use seeds=[1, 2]"),
        ("seeds=3", "seeds = 3: must be a list of seeds, e.g. [0, 1]"),
        ("seeds=0,1", "seeds = '0,1': must be a list of seeds, e.g. [0, 1]"),
        ("seeds=[]", "seeds = []: must have at least one entry"),
        ("seeds=[1,1]", "seeds = [1, 1]: 1 is there twice"),
        ("seeds=[x]", "seeds.0 = 'x': must be a valid integer"),
        (
            "devices=20",
            "devices = 20: must be a list of device counts, e.g. [5, 10, 20]; the runs' own is devices.count",
        ),
        ("devices=[0]", "devices.0 = 0: must be greater than or equal to 1"),
    ],
)
def test_overrides_that_cannot_be_are_one_line(tmp_path, override, message):
    assert refused(tmp_path, SMALL, override) == message


def test_seeds_that_are_no_list_are_refused_in_the_file_too(tmp_path):
    assert refused(tmp_path, SMALL | {"seeds": 3}) == "seeds = 3: must be a list of seeds, e.g. [0, 1]"


def test_overrides_set_the_seeds_the_device_counts_and_what_the_runs_share(tmp_path):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(SMALL))
    found = load_comparison(tmp_path / "c.yaml", ["seeds=[5]", "devices=[4,8]", "devices.count=6", "method.batch=3"])
    assert list(found.configs()["MD-GAN"]) == [5]
    assert list(found.at_counts("MD-GAN")) == [4, 8]
    [config] = found.configs()["MD-GAN"].values()
    assert (config.seed, config.devices.count, config.method.batch) == (5, 6, 3)
    back = found.with_overrides(["seeds=null", "devices=null"])
    assert list(back.configs()["MD-GAN"]) == [0]  # a run's own default
    assert list(back.at_counts("MD-GAN")) == [3, 6, 12, 24]


@pytest.mark.parametrize("as_object", [True, False])
def test_overrides_are_keywords_in_python(tmp_path, cache, as_object):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(SMALL))
    comparison = load_comparison(tmp_path / "c.yaml") if as_object else tmp_path / "c.yaml"
    with pytest.raises(UserError, match=r"^seed=1: a comparison has seeds; use seeds=\[1\]$"):
        compare(comparison, local=True, seed=1)
    quick = {"rounds": 1, "evaluation__every": 0, "tracking__enabled": False, "runs_dir": str(tmp_path / "runs")}
    found = compare(comparison, local=True, seeds=[5], devices=[2], **quick)
    assert {name: list(run["ids"]) for name, run in found["runs"].items()} == {"FeGAN (C=0.5)": ["5"], "MD-GAN": ["5"]}
    assert [run["summary"]["rounds"]["mean"] for run in found["runs"].values()] == [1, 1]
    assert [list(rates) for rates in found["throughput"].values()] == [[2], [2]]


def test_counts_that_nobody_asked_for_and_that_cannot_be_are_a_dash(tmp_path, cache):
    """Of 6,000 images each of 16 devices would hold 375, fewer than a batch of 376."""
    tree = {"base": SMALL["base"] | {"rounds": 1, "evaluation": {"every": 0}, "tracking": {"enabled": False}}}
    tree["runs"] = {"small": FEGAN, "large": {"method": FEGAN["method"] | {"batch": 376}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    outcome = rayfed(tmp_path, "compare", "c.yaml", "--local")
    assert outcome.code == 0, outcome.err
    _, _, table, _ = outcome.out.strip("\n").split("\n\n")
    title, header, *rows = [line.split() for line in table.splitlines()[:-1]]
    assert " ".join(title) == "sim. images/s by number of devices"
    assert header == ["run", "2", "4", "8", "16"]
    assert [(row[0], row[4] == "-", "-" in row[:4]) for row in rows] == [
        ("large", True, False),
        ("small", False, False),
    ]
    assert "small: finished, 1 round in " in outcome.err


@pytest.mark.slow
def test_the_file_of_the_page_is_complete(tmp_path, cache):
    """docs/compare.md's, with settings that make it quick."""
    [text] = re.findall(
        r"```yaml\n(.*?)```", (Path(__file__).parents[2] / "docs" / "compare.md").read_text(), re.DOTALL
    )
    assert len(text.splitlines()) < 12
    (tmp_path / "mine.yaml").write_text(text)
    quick = ["rounds=1", "devices.count=4", "method.batch=4", "method.iterations=1", "model.width=4"]
    judged = ["evaluation.every=1", "evaluation.samples=64", "evaluation.extractor=classifier"]
    outcome = rayfed(tmp_path, "compare", "mine.yaml", "--local", "--json", *quick, *judged)
    assert outcome.code == 0, outcome.err
    found = outcome.json
    assert (found["status"], found["metric"]["label"]) == ("finished", "FID")
    assert {name: list(run["ids"]) for name, run in found["runs"].items()} == {
        "FeGAN": ["0", "1"],
        "MD-GAN": ["0", "1"],
    }
    assert all(run["summary"]["best"]["mean"] > 0 for run in found["runs"].values())
    assert [list(rates) for rates in found["throughput"].values()] == [["2", "4", "8", "16"]] * 2


def test_a_run_is_merged_over_the_base_section_by_section():
    configs = Comparison(**SMALL).configs()
    assert {name: list(seeds) for name, seeds in configs.items()} == {"FeGAN (C=0.5)": [0, 1], "MD-GAN": [0, 1]}
    fegan, other = configs["FeGAN (C=0.5)"][1], configs["MD-GAN"][1]
    assert (fegan.seed, fegan.rounds, fegan.method.batch, fegan.method.iterations) == (1, 2, 4, 1)
    assert (other.seed, other.rounds, other.method.batch, other.method.name) == (1, 1, 4, "md-gan")


@pytest.mark.parametrize(("count", "expected"), [(10, [5, 10, 20, 40]), (2, [2, 4, 8]), (4, [2, 4, 8, 16])])
def test_by_default_throughput_is_measured_at_half_to_four_times_the_devices(count, expected):
    tree = SMALL | {"base": SMALL["base"] | {"seed": 7, "devices": {"count": count}}, "seeds": None, "devices": None}
    comparison = Comparison(**tree)
    assert list(comparison.configs()["MD-GAN"]) == [7]
    assert [config.devices.count for config in comparison.at_counts("MD-GAN").values()] == expected


def test_a_partition_file_fits_one_number_of_devices():
    base = SMALL["base"] | {"devices": {"count": 7}, "data": {"partition": "file:clinics.csv"}}
    comparison = Comparison(**SMALL | {"base": base, "devices": None})
    assert [config.devices.count for config in comparison.at_counts("MD-GAN").values()] == [7]


@dataclass(frozen=True)
class Made:
    """A folder in which a small comparison has finished."""

    folder: Path
    outcome: Outcome

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.folder}/rayfed-runs/rayfed.db")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """The classifier that judges it is trained in a cache of the tests."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        outcome = rayfed(folder, "compare", "small.yaml", "--local", "--json", "--csv", "fids.csv")
        assert outcome.code == 0, outcome.err
        yield Made(folder, outcome)


def test_every_run_with_every_seed_ends_in_one_line_on_stderr(made):
    shown = made.outcome.err.splitlines()
    lines = [line for line in shown if ": finished, " in line]
    names = ["FeGAN (C=0.5), seed 0", "FeGAN (C=0.5), seed 1", "MD-GAN, seed 0", "MD-GAN, seed 1"]
    assert [line.partition(": ")[0] for line in lines] == names
    assert "FeGAN (C=0.5), seed 0: round 2/2" in [line.partition("  ")[0] for line in shown]


def test_the_document_says_what_the_store_says(made):
    found = made.outcome.json
    assert (found["status"], found["metric"]["name"], found["resume"], found["without_result"]) == (
        "finished",
        "fid_classifier",
        {},
        [],
    )
    for name, run in found["runs"].items():
        for seed, run_id in run["ids"].items():
            rounds = [metrics for _, metrics, _ in made.store.history(run_id)[1:]]
            summary = {figure: values["seeds"][seed] for figure, values in run["summary"].items()}
            fids, simulated = [each["fid_classifier"] for each in rounds], rounds[-1]["sim_total_seconds"]
            assert len(rounds) == (1 if name == "MD-GAN" else 2)
            assert run["series"][seed]["fid_classifier"] == fids
            assert (summary["best"], summary["last"]) == (min(fids), fids[-1])
            assert summary["sim_seconds"] == simulated
            assert summary["images_per_sim_s"] == sum(each["images"] for each in rounds) / simulated
            assert summary["bytes_device"] == sum(each["bytes_device_max"] for each in rounds)
    throughput = found["throughput"]["FeGAN (C=0.5)"]
    assert list(throughput) == ["2", "4"]
    assert throughput["4"] == pytest.approx(found["runs"]["FeGAN (C=0.5)"]["summary"]["images_per_sim_s"]["seeds"]["0"])


def test_the_csv_has_every_measured_round(made):
    with (made.folder / "fids.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["seed"], row["round"]) for row in rows] == [
        *[("FeGAN (C=0.5)", seed, round) for seed in "01" for round in "12"],
        *[("MD-GAN", seed, "1") for seed in "01"],
    ]
    document = made.outcome.json["runs"]["MD-GAN"]["series"]["1"]
    assert float(rows[-1]["fid_classifier"]) == document["fid_classifier"][0]
    assert float(rows[-1]["sim_seconds"]) == document["sim_total_seconds"][0]


def test_mlflow_has_a_parent_with_the_figure_and_the_runs_under_it(made):
    client = MlflowClient(f"sqlite:///{made.folder}/rayfed-runs/mlflow.db")
    experiment = client.get_experiment_by_name("rayfed")
    found = made.outcome.json
    [parent] = client.search_runs([experiment.experiment_id], "tags.runs != ''")
    assert (parent.info.run_name, parent.info.status) == (found["comparison"], "FINISHED")
    assert parent.data.params["method.batch"] == "4"
    assert parent.data.tags["runs"] == "FeGAN (C=0.5), MD-GAN"
    assert parent.data.tags["seeds"] == "0, 1"
    assert parent.data.metrics == {}
    best = [found["runs"][name]["summary"]["best"]["mean"] for name in ("FeGAN (C=0.5)", "MD-GAN")]
    page = (
        f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        f"&compareRunsMode=CHART&viewStateShareKey={found['comparison']}"
    )
    assert parent.data.tags["mlflow.note.content"].split("\n\n") == [
        "Best FID: FeGAN (C=0.5) **{:.1f}**, MD-GAN **{:.1f}**".format(*best),
        f"[Charts and samples of the runs]({page})",
        f"![comparison](get-artifact?path=comparison.png&run_uuid={parent.info.run_id})",
    ]
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{found['comparison']}"])
    assert len(client.search_runs([experiment.experiment_id], view["searchFilter"])) == 4
    drawn = [(card.get("metricKey"), card.get("imageKeys")) for card in view["compareRunCharts"]]
    assert drawn == [("evaluation/fid_classifier", None)] * 3 + [(None, ["evaluation/samples"])]
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"comparison.png", "comparison.csv", "comparison.json"}

    children = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    ids = {run_id for run in found["runs"].values() for run_id in run["ids"].values()}
    assert {child.data.tags["run"] for child in children} == ids
    assert {child.info.run_name for child in children} == {
        f"{name}, seed {seed} ({run_id})" for name, run in found["runs"].items() for seed, run_id in run["ids"].items()
    }
    inputs = [run.inputs.dataset_inputs for run in (parent, *children)]
    assert [[each.dataset.name for each in data] for data in inputs] == [["fashion-mnist-6k"]] * 5
    assert len({data[0].dataset.digest for data in inputs}) == 1


def test_the_figure_is_a_picture_beside_the_runs(made):
    found = made.outcome.json
    with Image.open(made.folder / found["figure"]) as image:
        assert image.size == (1320, 1020)
    kept = json.loads((made.folder / found["figure"]).with_name("comparison.json").read_text())
    assert kept == {key: value for key, value in found.items() if key != "mlflow"}


def test_the_table_fits_a_hundred_columns(made):
    from rayfed.console.tables import comparison_closing

    table = comparison_closing(made.outcome.json).partition("\ncomparison ")[0]
    header = table.strip("\n").splitlines()[1]
    assert header.split()[:4] == ["run", "rounds", "best", "last"]
    assert max(map(len, table.splitlines())) <= 100
    assert " ± " in table
    assert (
        "FID in classifier's features; sim.: on the simulated devices; mean of 2 seeds (best and last: ± std)" in table
    )


def test_an_id_that_is_taken_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    comparison = Comparison(base={"runs_dir": str(tmp_path)}, runs={"a": {"method": {"name": "fegan"}}})
    with pytest.raises(UserError, match=r"^comparison 'mine' is already in "):
        compare(comparison, ident="mine", local=True)


def test_a_runs_id_that_is_taken_is_refused(tmp_path):
    config = parse({"runs_dir": str(tmp_path), "method": {"name": "fegan"}, "tracking": {"enabled": False}})
    Store(store_url(config)).create_run("mine", {}, {})
    with pytest.raises(UserError, match=r"^run 'mine' is already in .*; take another id, or `rayfed resume` it"):
        run_alone(config, run_id="mine", local=True, progress=False)
