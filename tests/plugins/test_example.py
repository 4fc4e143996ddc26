"""The example package, installed beside rayfed as anybody's would be: found by its entry point and its dotted names."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rayfed.store import Store
from tests.plugins.commands import Outcome, last_commit, script

SOURCE = Path(__file__).with_name("example")
FILES = ("example.yaml", "watch.py", "test_lookahead.py")
GENERATOR = (100 * 256 + 256) + (16 * 8 * 4 * 4 + 8) + (4 * 8 + 1) + (8 * 1 * 4 * 4 + 1)
"""Values of its layers at width 8: linear, transposed convolution, BatchNorm and its statistics, transposed again."""
DISCRIMINATOR = (1 * 8 * 4 * 4 + 8) + (8 * 16 * 4 * 4 + 16) + (256 + 1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed; the build leaves its traces in a copy of the source."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(SOURCE, folder / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *offline]
    subprocess.run([*command, "--target", str(folder / "site"), str(folder / "source")], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the user works; the package's source is not there."""
    folder = tmp_path_factory.mktemp("work")
    for name in FILES:
        shutil.copy(SOURCE / name, folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def test_the_method_is_listed_where_the_package_is_installed(folder: Path, site: Path) -> None:
    shipped, found = (script(folder, "methods", "--json", PYTHONPATH=path).json for path in ("", str(site)))
    assert found == shipped | {"lookahead": "Lookahead of G and D on the server (Zhang et al. 2019)"}
    outcome = script(folder, "run", "example.yaml", "--local")
    message = f"method.name = 'lookahead': must be one of {', '.join(shipped)}, or package.module:METHOD"
    assert outcome == Outcome(2, "", f"rayfed: {message}\n")


def test_it_trains_its_networks_on_its_data(folder: Path, site: Path) -> None:
    outcome = script(folder, "run", "example.yaml", "--local", "--json", "tracking.enabled=false", PYTHONPATH=str(site))
    assert outcome.code == 0, outcome.err
    run = outcome.json["run"]
    assert run.startswith("lookahead-")
    commit = last_commit(folder, run)
    assert {name: array.shape for name, array in commit.arrays.items()} == {
        "generator": (GENERATOR,),
        "discriminator": (DISCRIMINATOR,),
    }
    assert np.isfinite(commit.arrays["generator"]).all()
    assert commit.metrics["bytes_up"] == 2 * 4 * (GENERATOR + DISCRIMINATOR)
    store = Store(f"sqlite:///{folder}/rayfed-runs/rayfed.db")
    counts = np.array(store.run(run).facts["class_counts"])
    store.close()
    assert counts.sum(axis=0).tolist() == [300, 300]  # the classes take turns in its 600 images
    assert (np.count_nonzero(counts, axis=1) == 1).all()


def test_its_callback_hears_of_every_evaluation(folder: Path, site: Path) -> None:
    outcome = script(folder, "watch.py", program="python", PYTHONPATH=str(site))
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert [re.sub(r"FID [\d.]+", "FID x", line) for line in lines] == [
        "round 0: as it began, samples-00000.png",
        *(f"round {round}: FID x, samples-{round:05d}.png" for round in (2, 4)),
    ]


@pytest.mark.long
@pytest.mark.slow
def test_its_own_tests_pass_on_ray_too(folder: Path, site: Path) -> None:
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lookahead.py"]
    outcome = script(folder, *arguments, program="python", PYTHONPATH=str(site))
    assert outcome.code == 0, outcome.out
    assert "2 passed" in outcome.out


def test_an_entry_point_that_does_not_import_is_listed_with_the_cause(tmp_path: Path) -> None:
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[rayfed.methods]\nbroken = broken_package.method:METHOD\n")
    message = (
        "method.name = 'broken_package.method:METHOD': cannot import broken_package.method (ModuleNotFoundError: No "
        "module named 'broken_package')"
    )
    listed = script(tmp_path, "methods", "--json", PYTHONPATH=str(tmp_path))
    assert (listed.code, listed.json["broken"]) == (0, message)
