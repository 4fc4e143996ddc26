"""MLflow's pages of a real comparison, in a real browser."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tests.test_cli import TINY, rayfed

CHROMIUM = "/usr/bin/chromium"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}; Debian's package chromium has it"),
]
COMPARISON: dict[str, Any] = {
    "base": TINY | {"rounds": 3, "method": {"iterations": 1, "batch": 4}},
    "runs": {"FeGAN": {"method": {"name": "fegan", "fraction": 0.5}}, "MD-GAN": {"method": {"name": "md-gan"}}},
}
DRAWN_MS = 180_000
"""Of a page on a machine that has much else to do."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """MLflow's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--artifacts-destination", str(tmp_path / "served")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(f"{url}/health")
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


@pytest.fixture
def page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1400})
        page.set_default_timeout(DRAWN_MS)
        yield page
        browser.close()


def test_a_comparison_opens_on_a_line_per_run_and_their_samples(tmp_path: Path, server: str, page: Any) -> None:
    tracking = {"tracking": {"uri": server}}
    comparison = COMPARISON | {"base": COMPARISON["base"] | tracking}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(comparison))
    done = rayfed(tmp_path, "compare", "small.yaml", "--local", "--json")
    assert done.code == 0, done.err
    address = done.json["mlflow"]
    assert address.startswith(f"{server}/#/experiments/")

    page.goto(address)
    page.get_by_text("Model training").wait_for()
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    judged = cards.filter(has_text="evaluation/fid_classifier")
    for title in ("Step", "sim_total_seconds", "bytes_device_total"):
        lines = judged.filter(has_text=re.compile(title)).first.locator("svg .scatterlayer path.js-line")
        lines.nth(1).wait_for(state="attached")
        colours = lines.evaluate_all("lines => lines.map(line => getComputedStyle(line).stroke)")
        assert len(set(colours)) == 2, title
    samples = cards.filter(has_text="evaluation/samples")
    samples.scroll_into_view_if_needed()
    samples.locator("img").nth(1).wait_for()
    loaded = "images => images.map(image => image.complete && image.naturalWidth > 100)"
    assert samples.locator("img").evaluate_all(loaded) == [True, True]

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("rayfed").experiment_id
    [parent] = client.search_runs([experiment], f"tags.mlflow.runName = '{done.json['comparison']}'")
    page = page.context.browser.new_page(viewport=page.viewport_size)
    page.set_default_timeout(DRAWN_MS)
    page.goto(f"{server}/#/experiments/{experiment}/runs/{parent.info.run_id}?workflowType=machine_learning")
    page.get_by_text("Best FID").first.wait_for()
    page.get_by_text("Show more").first.click()
    figure = page.locator("img[src*='comparison.png']").first
    figure.wait_for(state="attached")
    assert figure.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    assert json.loads(done.out)["status"] == "finished"
