"""`rayfed export`: a file that torch alone can load, for any batch size; and what it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from mlflow import MlflowClient

from rayfed.app import runs
from tests.test_cli import TINY, Outcome, rayfed


@pytest.fixture(scope="module", params=["fl-vanilla", "asyn-dgan"])
def run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A folder with a run of one round, and the run's id; the second's generator takes a class beside noise."""
    folder = tmp_path_factory.mktemp("exported")
    section: dict[str, Any] = {"name": request.param, "iterations": 1, "batch": 4}
    if request.param == "fl-vanilla":
        section["fraction"] = 0.5
    tree = TINY | {"rounds": 1, "method": section, "evaluation": {"every": 0}}
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    outcome = rayfed(folder, "run", "run.yaml", "--local", "--json")
    assert outcome.code == 0, outcome.err
    return folder, outcome.json["run"]


DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
WITHOUT_RAYFED = "import sys\nsys.modules['rayfed'] = None  # importing it is an error\n"


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with a run and its generator.pt2, the run's id, and MLflow's id of it."""
    folder = tmp_path_factory.mktemp("tracked")
    tree = TINY | {"rounds": 1, "evaluation": {"every": 0}, "tracking": {"enabled": True}}
    (folder / "run.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        name = rayfed(folder, "run", "run.yaml", "--local", "--json").json["run"]
    assert rayfed(folder, "export", name).code == 0
    client = MlflowClient(f"sqlite:///{folder}/rayfed-runs/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    return folder, name, run.info.run_id


@pytest.mark.slow
@pytest.mark.parametrize(("number", "loads"), [(0, "mlflow.pytorch.load_model("), (1, "torch.export.load(")])
def test_the_documented_snippets_draw_the_generators_images_without_rayfed(tracked, number, loads):
    """As docs/metrics.md has them; noise that is known takes the place of theirs."""
    folder, name, mlflow_run = tracked
    snippet = re.findall("```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[number]
    assert loads in snippet
    script = snippet.replace("RUN_ID", mlflow_run).replace("torch.randn(16, 100)", "noise")
    script = (
        f"{WITHOUT_RAYFED}import torch\nnoise = torch.load('noise.pt')\n{script}\ntorch.save(images, 'images.pt')\n"
    )
    script += "try:\n    generator.eval()\nexcept NotImplementedError:\n    print('no eval')\n"
    noise = torch.randn(16, 100, generator=torch.Generator().manual_seed(0))
    torch.save(noise, folder / "noise.pt")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "no eval\n"
    images = torch.load(folder / "images.pt").numpy()
    assert images.shape == (16, 1, 28, 28)
    np.testing.assert_allclose(images, images_of(folder, name, noise.numpy()), atol=1e-6)


ALONE = """
import sys, numpy as np, torch
program = torch.export.load(sys.argv[1]).module()
for count in sys.argv[2:]:
    np.save(f"images{count}.npy", program(torch.from_numpy(np.load(f"z{count}.npy"))).detach().numpy())
assert not [name for name in sys.modules if name.startswith("rayfed")]
"""


def noise(run: str, count: int) -> np.ndarray:
    """What the run's generator takes: 100 values, and 10 more of the class where it is conditional."""
    width = 110 if run.startswith("asyn-dgan") else 100
    return np.random.default_rng(count).standard_normal((count, width)).astype(np.float32)


def images_of(folder: Path, run: str, z: np.ndarray) -> np.ndarray:
    """What the generator makes of it in this process."""
    with torch.no_grad():
        return runs.load(run, str(folder / "rayfed-runs")).generator()(torch.from_numpy(z)).numpy()


def test_a_pt2_file_is_the_generator_for_any_batch_without_rayfed(run, tmp_path):
    folder, name = run
    path = tmp_path / "new" / "g.pt2"
    assert rayfed(folder, "export", name, "--out", str(path)) == Outcome(0, f"{path}\n", "")
    for count in (1, 5):
        np.save(tmp_path / f"z{count}.npy", noise(name, count))
    subprocess.run([sys.executable, "-c", ALONE, str(path), "1", "5"], check=True, timeout=120, cwd=tmp_path)
    for count in (1, 5):
        images = np.load(tmp_path / f"images{count}.npy")
        assert images.shape == (count, 1, 28, 28)
        np.testing.assert_allclose(images, images_of(folder, name, noise(name, count)), atol=1e-6)


def test_without_a_name_it_is_generator_pt2_here(run):
    folder, name = run
    assert rayfed(folder, "export", name) == Outcome(0, "generator.pt2\n", "")
    assert (folder / "generator.pt2").stat().st_size > 4 * 85_687


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("g.pth", "--out g.pth: must end in .pt2 or .onnx"),
        ("generator", "--out generator: must end in .pt2 or .onnx"),
        ("there.pt2", "--out there.pt2: is there already; name another file or remove it"),
        ("there.onnx", "--out there.onnx: is there already; name another file or remove it"),
        ("/proc/g.pt2", "--out /proc/g.pt2: cannot be written (No such file or directory)"),
        (f"{'x' * 300}.pt2", f"--out {'x' * 300}.pt2: cannot be written (File name too long)"),
        ("there.pt2/g.pt2", "--out there.pt2/g.pt2: cannot be written (File exists)"),
    ],
)
def test_what_cannot_be_written_is_one_line(run, out, message):
    folder, name = run
    for there in ("there.pt2", "there.onnx"):
        (folder / there).write_text("mine")
    assert rayfed(folder, "export", name, "--out", out) == Outcome(2, "", f"rayfed: {message}\n")
    assert {(folder / there).read_text() for there in ("there.pt2", "there.onnx")} == {"mine"}


BARE = """
import sys
sys.modules.update(onnx=None, onnxscript=None)
from rayfed import cli
sys.argv[0] = "rayfed"
cli.main()
"""


def test_without_the_packages_of_onnx_there_is_one_line_on_how_to_get_them(run):
    """In a process that finds neither, as where they are not installed."""
    folder, name = run
    command = [sys.executable, "-c", BARE, "export", name, "--out", "g.onnx"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("rayfed: --out g.onnx: ONNX needs onnx")
    assert done.stderr.endswith("; pip install 'rayfed-gan[onnx]'\n")
    assert not (folder / "g.onnx").exists()


def test_an_onnx_file_is_the_generator_for_any_batch(run, tmp_path):
    folder, name = run
    path = tmp_path / "g.onnx"
    outcome = rayfed(folder, "export", name, "--out", str(path))
    assert (outcome.code, outcome.out) == (0, f"{path}\n"), outcome.err
    session = onnxruntime.InferenceSession(str(path))
    for count in (1, 5):
        z = noise(name, count)
        [images] = session.run(None, {session.get_inputs()[0].name: z})
        np.testing.assert_allclose(images, images_of(folder, name, z), atol=1e-5)
