"""The files under jobs/: all of them are sound, and the demo leaves in MLflow what the README promises."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from PIL import Image

from rayfed.app import runs
from rayfed.config import RunConfig, load
from rayfed.config.comparison import load_comparison
from rayfed.data.setup import prepare
from rayfed.data.sources import DEBIAN_FASHION_MNIST
from rayfed.methods.spec import method_of
from tests.e2e.commands import rayfed, store_of

JOBS = Path(__file__).parents[2] / "jobs"
SECTIONS = ("method", "devices", "data", "model", "evaluation")
OFFLINE = {"fashion-mnist-6k"} | ({"fashion-mnist"} if DEBIAN_FASHION_MNIST.is_dir() else set())


def jobs() -> list[str]:
    return sorted(path.stem for path in JOBS.glob("*.yaml") if path.stem != "compare")


@pytest.mark.parametrize(
    "path", [JOBS / "compare.yaml", *sorted(JOBS.glob("figures/*.yaml"))], ids=lambda path: path.stem
)
def test_every_comparison_is_sound(path):
    if "base:" in path.read_text():
        assert all(configs for configs in load_comparison(path).configs().values())
    else:
        assert load(path).rounds > 0


def job(name: str) -> RunConfig:
    return load(JOBS / f"{name}.yaml")


@pytest.mark.parametrize("name", [name for name in jobs() if job(name).data.name in OFFLINE])
def test_every_jobs_data_can_be_spread_over_its_devices(name):
    config = job(name)
    federation = prepare(config, method_of(config).task.side(config.model))
    assert len(federation.parts) == config.devices.count
    assert federation.counts.sum(axis=1).tolist() == [len(part) for part in federation.parts]


def test_fegans_job_is_its_papers_setting():
    """Guerraoui et al. 2020, section 4: 80 devices, C = 0.025, E = 30, B = 50."""
    config = job("fegan")
    assert (config.devices.count, config.participants) == (80, 2)
    assert (config.method.iterations, config.method.batch, config.model.name) == (30, 50, "lsgan")


@pytest.mark.parametrize("name", ["fl-vanilla", "fedgan", "centralized"])
def test_a_baseline_differs_from_fegan_in_its_method_alone(name):
    fegan, baseline = job("fegan"), job(name)
    assert baseline.method.name == name
    assert baseline.method.iterations == fegan.method.iterations
    assert baseline.method.batch == fegan.method.batch
    assert baseline.model_copy(update={"method": fegan.method}) == fegan


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two rounds of the demo ran, on Ray and with MLflow."""
    folder = tmp_path_factory.mktemp("demo")
    done = rayfed(folder, "run", str(JOBS / "demo.yaml"), "rounds=2", "method.iterations=2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def tracked(demo):
    """The demo's MLflow run."""
    client = MlflowClient(f"sqlite:///{demo}/rayfed-runs/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("rayfed").experiment_id])
    return client, run


@pytest.mark.slow
def test_the_demo_tells_the_user_no_more_than_how_it_goes(demo):
    noise = (demo / "err.txt").read_text()
    assert not [word for word in ("Warning", "WARNING", "Traceback", "core_worker", "Error") if word in noise], noise
    assert "round 2/2  " in noise
    table = (demo / "out.txt").read_text()
    assert "(finished, 2 rounds)\n" in table
    assert "ui --backend-store-uri sqlite:///rayfed-runs/mlflow.db\n" in table


@pytest.mark.slow
def test_the_demos_configuration_and_metrics_are_in_mlflow(demo, tracked):
    client, run = tracked
    [record] = store_of(demo).runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", f"{record.id}, seed 3")
    written = yaml.safe_load((JOBS / "demo.yaml").read_text())
    expected = {f"{section}.{key}": str(value) for section in SECTIONS for key, value in written[section].items()}
    assert (expected | {"rounds": "2", "method.iterations": "2"}).items() <= run.data.params.items()
    assert {"method": "fegan", "fleet": "ray"}.items() <= run.data.tags.items()
    assert {"version.torch", "version.ray", "extractor.classifier"} <= run.data.tags.keys()
    for round, metrics, _ in store_of(demo).history(record.id)[1:]:
        assert {"images_per_s", "bytes_up", "bytes_down", "kl_seen", "loss_g", "loss_d"} <= metrics.keys()
        for name, value in metrics.items():
            if name.startswith("seen_class/"):
                continue  # a table among the artifacts
            key = "evaluation/fid_classifier" if name == "fid_classifier" else name
            points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, key)}
            assert points[round] == value, name
    assert {"evaluation/fid_classifier", "images_per_s"} <= run.data.metrics.keys()
    assert not [name for name in run.data.metrics if name.startswith("seen_class")]


@pytest.mark.slow
def test_the_demos_pictures_are_in_mlflow(tracked):
    _, run = tracked
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    for name in ("partition.png", "run.png", "seen_class.png", "samples.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
    grids = [next((folder / "images").glob(f"evaluation?samples*step*{step}*.png")) for step in (0, 2)]
    for grid in grids:
        with Image.open(grid) as picture:
            assert picture.size == (8 * 98 + 2, 8 * 98 + 2)  # 64 images of 32x32, enlarged three times


@pytest.mark.slow
def test_the_demos_generator_comes_back_from_mlflow(demo, tracked):
    client, run = tracked
    generator = runs.load(store_of(demo).runs()[0].id, str(demo / "rayfed-runs")).generator()
    z = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    with torch.no_grad():
        expected = generator(torch.from_numpy(z)).numpy()
    [model] = client.search_logged_models([run.info.experiment_id])
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        loaded = mlflow.pyfunc.load_model(model.model_uri)
    finally:
        mlflow.set_tracking_uri(None)
    for n in (1, 3):
        images = loaded.predict(z[:n])
        assert images.shape == (n, 1, 32, 32)
        np.testing.assert_allclose(images, expected[:n], atol=1e-5)
