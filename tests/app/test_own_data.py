"""One's own arrays and partition file through the entry point: the page's example, a resumed run, and bad files."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rayfed.store import Store
from tests.test_cli import TINY, Outcome, rayfed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "data.md").read_text()
LABELS = np.array(["cat", "dog", "dog", "owl"] * 10)
"""10 cats, 20 dogs, 10 owls: 1, 2 and 1 are held out."""
TREE: dict[str, Any] = TINY | {
    "rounds": 1,
    "method": TINY["method"] | {"batch": 2},
    "devices": {"count": 2},
    "data": {"name": "npz:pets.npz", "partition": "file:homes.csv"},
    "evaluation": {"every": 0},
}
RUN = ("run", "run.yaml", "--local")


def facts(folder: Path) -> tuple[str, dict[str, Any]]:
    """The one run of a folder, and what the store keeps of it."""
    store = Store(f"sqlite:///{folder}/rayfed-runs/rayfed.db")
    try:
        [record] = store.runs()
        return record.id, store.run(record.id).facts
    finally:
        store.close()


def by_rows(devices: list[int]) -> str:
    """A partition file that gives sample i to the i-th device."""
    return "sample,device\n" + "".join(f"{sample},{device}\n" for sample, device in enumerate(devices))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pets with a test split; the cats are on device 1, all others on device 0."""
    rng = np.random.default_rng(0)
    images, test_images = (rng.integers(0, 256, (count, 9, 11, 3), dtype=np.uint8) for count in (40, 4))
    np.savez(tmp_path / "pets.npz", images=images, labels=LABELS, test_images=test_images, test_labels=LABELS[:4])
    np.savez(tmp_path / "whole.npz", images=images, labels=LABELS)
    (tmp_path / "homes.csv").write_text(by_rows((LABELS == "cat").astype(int).tolist()))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(TREE))
    return tmp_path


def test_a_run_trains_on_what_the_file_says(folder: Path) -> None:
    outcome = rayfed(folder, *RUN)
    assert outcome.code == 0, outcome.err
    assert "held out" not in outcome.err
    _, found = facts(folder)
    assert found["class_counts"] == [[0, 20, 10], [10, 0, 0]]
    assert found["union"] == found["whole"] == [10, 20, 10]
    assert found["channels"] == 3


def test_rows_of_held_out_samples_are_told_of_and_small_devices_too(folder: Path) -> None:
    """Device 1 holds 9 of the 10 cats, fewer than a batch."""
    outcome = rayfed(folder, *RUN, "data.name=npz:whole.npz", "method.batch=20")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[:2] == [
        "data.partition = file:homes.csv: 4 of its rows name samples that are held out for the test, and are left out",
        "method.batch = 20: 1 of 2 devices with fewer images; such a device trains on batches of all it has",
    ]
    assert facts(folder)[1]["class_counts"] == [[0, 18, 9], [9, 0, 0]]


def test_a_resumed_run_goes_on_with_the_same_partition_alone(folder: Path) -> None:
    assert rayfed(folder, *RUN).code == 0
    run, _ = facts(folder)
    whole = (folder / "homes.csv").read_text()
    (folder / "homes.csv").write_text(whole.replace("\n1,0\n", "\n"))
    refused = rayfed(folder, "resume", run, "rounds=2", "--local")
    message = f"data.partition = 'file:homes.csv': not the partition that run {run} began with"
    assert refused == Outcome(2, "", f"rayfed: {message}\n")
    header, *rows = whole.splitlines()
    (folder / "homes.csv").write_text("\n".join([header, *reversed(rows)]))
    outcome = rayfed(folder, "resume", run, "rounds=2", "--local", "--json")
    assert (outcome.code, outcome.json["rounds"]) == (0, 2), outcome.err


def test_methods_are_compared_on_the_same_file(folder: Path) -> None:
    """Throughput is rehearsed at the one number of devices that the file fits."""
    base = {key: value for key, value in TREE.items() if key != "method"} | {"evaluation": {"every": 1}}
    base["evaluation"] |= {"extractor": "classifier", "samples": 8}
    runs = {name: {"method": TREE["method"] | {"name": name}} for name in ("fl-vanilla", "fedgan")}
    (folder / "compare.yaml").write_text(yaml.safe_dump({"base": base, "runs": runs}))
    outcome = rayfed(folder, "compare", "compare.yaml", "--local", "--json")
    assert outcome.code == 0, outcome.err
    assert {run: list(rates) for run, rates in outcome.json["throughput"].items()} == {
        "fl-vanilla": ["2"],
        "fedgan": ["2"],
    }


@pytest.mark.parametrize(
    ("arrays", "text", "message"),
    [
        ({"labels": LABELS[:39]}, None, "data.name = 'npz:pets.npz': labels have the shape [39]; images need [40]"),
        (
            {"images": np.zeros((40, 9, 9))},
            None,
            "data.name = 'npz:pets.npz': images are float64; they must be uint8, from 0 to 255",
        ),
        (
            {"labels": LABELS.astype(object)},
            None,
            "data.name = 'npz:pets.npz': labels cannot be read (ValueError: Object arrays cannot be loaded when "
            "allow_pickle=False); it must be a whole array of numbers or strings",
        ),
        ({}, by_rows([0, 1, 2]), "homes.csv, line 4: device = 2: with devices.count = 2 it must be 0 to 1; "
            "devices.count = 3 fits the file"),
        ({}, by_rows([0, 1] * 21), "homes.csv, line 42: sample = '40': must be a sample's number, 0 to 39"),
        ({}, by_rows([0, 1]) + "1,1\n", "homes.csv, line 4: sample 1 is on device 1 already, by line 3; leave one of "
            "them out"),
        ({}, by_rows([1, 1]), "homes.csv: device 0 holds no sample; each of 0 to 1 must hold a training image"),
        ({}, "sample,device,site\n", "homes.csv, line 1: unknown column 'site'; the columns are sample, device"),
        ({}, by_rows([0, 1]), "method.batch = 2: device 0, the largest, holds 1 image; use at most 1"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line_and_leaves_nothing_behind(
    folder: Path, arrays: dict[str, Any], text: str | None, message: str
) -> None:
    with np.load(folder / "pets.npz") as good:
        np.savez(folder / "pets.npz", **{**good, **arrays})
    if text:
        (folder / "homes.csv").write_text(text)
    files = sorted(folder.iterdir())
    assert rayfed(folder, *RUN) == Outcome(2, "", f"rayfed: {message}\n")
    assert sorted(folder.iterdir()) == files


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.name=npz:no.npz", "data.name = 'npz:no.npz': no such file"),
        (
            "data.name=npz:run.yaml",
            "data.name = 'npz:run.yaml': not an .npz file that can be read; write it with numpy.savez",
        ),
        ("data.partition=file:no.csv", "no.csv: cannot be read (No such file or directory)"),
        (
            "data.partition=homes.csv",
            "data.partition = 'homes.csv': must be one of iid, fegan, classes, dirichlet, or file:PATH",
        ),
    ],
)
def test_a_name_that_is_no_file_is_one_line(folder: Path, override: str, message: str) -> None:
    assert rayfed(folder, *RUN, override) == Outcome(2, "", f"rayfed: {message}\n")


def test_the_pages_example_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 scans, half of each kind; 15 of each are held out, and the third clinic has benign ones alone."""
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    [command] = re.findall(r"^rayfed (run .*data\.partition=file:.*)$", PAGE, re.MULTILINE)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        exec(code, {})
    arguments = [str(ROOT / each) if each.startswith("jobs/") else each for each in shlex.split(command)]
    quick = ("rounds=1", "method.iterations=1", "evaluation.every=0", "tracking.enabled=false", "--local")
    outcome = rayfed(tmp_path, *arguments, *quick)
    assert outcome.code == 0, outcome.err
    _, found = facts(tmp_path)
    assert found["whole"] == found["union"] == np.sum(found["class_counts"], axis=0).tolist() == [135, 135]
    benign, malignant = zip(*found["class_counts"], strict=True)
    assert min(benign) > 0
    assert malignant[2] == 0
