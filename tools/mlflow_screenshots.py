"""The pictures of MLflow's pages in docs/figures, taken in a real browser from a server that has the runs.

    rayfed compare COMPARISON       # playwright drives the system's Chromium
    mlflow server --backend-store-uri sqlite:///rayfed-runs/mlflow.db --port 5000
    python tools/mlflow_screenshots.py http://127.0.0.1:5000 docs/figures

The newest comparison is shown.
"""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from PIL import Image

CHROMIUM = "/usr/bin/chromium"
WIDTH = 1280
DRAWN_MS = 12_000
"""Until MLflow's charts are there."""
TRAINING = "workflowType=machine_learning"
"""In an address: the switch "Model training"."""
SETTINGS = {
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}


def newest(server: str) -> tuple[str, str, str, str]:
    """MLflow's ids of the experiment, of a comparison's own run and of one of its runs; the comparison, as tagged."""
    found = _post(server, "experiments/search", {"max_results": 10, "filter": "name = 'rayfed'"})
    experiment = found["experiments"][0]["experiment_id"]
    runs = _post(server, "runs/search", {"experiment_ids": [experiment], "max_results": 1000})["runs"]
    tags = {run["info"]["run_id"]: {tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs}
    part, comparison = next((run, each["comparison"]) for run, each in tags.items() if "run" in each)
    return experiment, tags[part]["mlflow.parentRunId"], part, comparison


def _post(server: str, what: str, body: dict[str, Any]) -> Any:
    url = f"{server}/api/2.0/mlflow/{what}"
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Camera:
    """A browser's page, and where its pictures go."""

    def __init__(self, page: Any, server: str, folder: Path) -> None:
        self.page, self.server, self.folder = page, server, folder

    def open(self, path: str, query: str = TRAINING) -> None:
        self.page.goto(f"{self.server}/#/experiments/{path}?{query}")
        self.page.wait_for_timeout(DRAWN_MS)

    def take(self, name: str, height: int, width: int = WIDTH) -> None:
        """Save the page's upper left corner; 256 colours make it small."""
        self.page.mouse.move(1, 1)
        self.page.wait_for_timeout(2000)
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path, clip={"x": 0, "y": 0, "width": width, "height": height})
        picture = Image.open(path).convert("RGB")
        picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def runs_table(camera: Camera, experiment: str) -> None:
    """All runs, the comparison's beneath it, and the column of names wide enough."""
    camera.open(f"{experiment}/runs")
    camera.page.locator(".ag-row button").first.click()
    edge = camera.page.locator(".ag-header-cell", has_text="Run Name").locator(".ag-header-cell-resize")
    edge.drag_to(camera.page.locator(".ag-header-cell", has_text="Created"), target_position={"x": 85, "y": 10})
    camera.take("mlflow-runs", 460)


def description(camera: Camera, experiment: str, run: str, name: str, height: int) -> None:
    """A run's page from its description on, without the column of tags beside it, which has paths of the machine."""
    camera.open(f"{experiment}/runs/{run}")
    camera.page.get_by_text("Show more").first.click()
    camera.take(name, height, 866)


def run_charts(camera: Camera, experiment: str, run: str) -> None:
    """The charts, and the newest samples without the list of parameters that MLflow puts before them."""
    camera.open(f"{experiment}/runs/{run}/model-metrics")
    samples = camera.page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text="evaluation/samples")
    samples.get_by_test_id("experiment-view-compare-runs-card-menu").click()
    camera.page.get_by_role("menuitem", name="Configure").click()
    camera.page.get_by_label("Show run parameters").click()
    camera.page.get_by_role("button", name="Save").click()
    slider = samples.get_by_role("slider")
    while slider.get_attribute("aria-valuenow") != slider.get_attribute("aria-valuemax"):
        slider.press("ArrowRight")
        camera.page.wait_for_timeout(300)
    camera.take("mlflow-metrics", 900)


def main(server: str, folder: Path) -> None:
    """Take all pictures of what `server` has."""
    from playwright.sync_api import sync_playwright

    experiment, parent, part, comparison = newest(server)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1200})
        page.add_init_script(f"Object.entries({json.dumps(SETTINGS)}).forEach(([k, v]) => localStorage.setItem(k, v))")
        camera = Camera(page, server.rstrip("/"), folder)
        query = urlencode({"compareRunsMode": "CHART", "viewStateShareKey": comparison})
        camera.open(f"{experiment}/runs", f"{TRAINING}&{query}")
        camera.take("mlflow-compare", 1160)
        description(camera, experiment, parent, "mlflow-comparison", 1000)
        description(camera, experiment, part, "mlflow-run", 900)
        run_charts(camera, experiment, part)
        runs_table(camera, experiment)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
