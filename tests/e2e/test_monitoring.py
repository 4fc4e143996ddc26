"""A real Prometheus scrapes a real run on a Ray cluster: every panel of the dashboard, and every rule, has data."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil
import pytest
import yaml

from rayfed.store import Store
from tests.e2e.commands import STARTED_S, descendants, end, environment, rayfed, store_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="needs Debian's package prometheus"),
]
FOLDER = Path(__file__).parents[2] / "dashboards"
CLUSTER = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
CONFIG: dict[str, Any] = {
    "rounds": 6,
    "method": {"name": "md-gan", "iterations": 4, "batch": 8},
    "devices": {"count": 4},
    "model": {"name": "dcgan28", "width": 4},
    "evaluation": {"every": 2, "extractor": "classifier", "samples": 64},
    "tracking": {"enabled": False},
}
SCRAPE_S = 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def started(command: list[str], folder: Path, log: str) -> Iterator[subprocess.Popen[str]]:
    """A server in the background, ended with all of its own processes."""
    with (folder / log).open("w") as out:
        process = subprocess.Popen(
            command, env=environment() | CLUSTER, stdout=out, stderr=out, start_new_session=True, text=True
        )
        try:
            yield process
        finally:
            end([*descendants(process), psutil.Process(process.pid)])
            process.wait(10)


@pytest.fixture(scope="module")
def ray_address(scratch: Path) -> Iterator[str]:
    """A Ray head with everything that its users have, and a folder of its own."""
    port, dashboard = free_port(), free_port()
    ray = Path(sys.executable).with_name("ray")
    options = ["--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=6"]
    folders = [f"--temp-dir={scratch}/ray", "--object-store-memory=200000000"]
    with started([str(ray), "start", "--head", "--block", *options, *folders], scratch, "head.txt") as head:
        wait_for_file(scratch / "ray" / "prom_metrics_service_discovery.json", head, scratch / "head.txt")
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def prometheus(ray_address: str, scratch: Path) -> Iterator[str]:
    """Prometheus with the files of dashboards/, but Ray's folder, and more scrapes."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert job["file_sd_configs"] == [
        {"files": ["/tmp/ray/prom_metrics_service_discovery.json"], "refresh_interval": "10s"}
    ]
    job["file_sd_configs"] = [{"files": [f"{scratch}/ray/prom_metrics_service_discovery.json"]}]
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    (scratch / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(FOLDER / "rules.yml", scratch)
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={scratch}/prometheus.yml", f"--storage.tsdb.path={scratch}/prometheus"]
    with started(["prometheus", *options, f"--web.listen-address={address}"], scratch, "prometheus.txt"):
        yield f"http://{address}/api/v1"


def wait_for_file(path: Path, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + STARTED_S
    while not path.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def asked(prometheus: str, path: str, **parameters: Any) -> Any:
    with urlopen(f"{prometheus}/{path}?{urlencode(parameters)}") as answer:
        return json.load(answer)["data"]


class Page:
    """The dashboard as Grafana shows it for some time, one run chosen."""

    def __init__(self, prometheus: str, start: float, stop: float) -> None:
        self.prometheus, self.start, self.stop = prometheus, start, stop
        self.json = json.loads((FOLDER / "rayfed.json").read_text())
        [self.runs] = [each["query"] for each in self.json["templating"]["list"] if each["name"] == "run"]
        self.run = ""

    def offered(self) -> list[str]:
        """What the variable `run` offers."""
        series, label = self.runs.removeprefix("label_values(").removesuffix(")").split(", ")
        times = {"start": self.start, "end": self.stop}
        values: list[str] = asked(self.prometheus, f"label/{label}/values", **{"match[]": series}, **times)
        return values

    def queries(self) -> dict[str, str]:
        """By panel and letter."""
        return {f"{panel['title']} {t['refId']}": t["expr"] for panel in self.json["panels"] for t in panel["targets"]}

    def values(self, query: str) -> list[tuple[dict[str, str], list[float]]]:
        """The labels and the values of each series of a query."""
        for name, value in {"$run": self.run, "$__rate_interval": f"{15 * SCRAPE_S}s"}.items():
            query = query.replace(name, value)
        assert "$" not in query
        times = {"start": self.start, "end": self.stop, "step": SCRAPE_S}
        found = asked(self.prometheus, "query_range", query=query, **times)["result"]
        return [(each["metric"], [float(value) for _, value in each["values"]]) for each in found]


def test_every_panel_and_every_rule_has_data(ray_address: str, prometheus: str, scratch: Path) -> None:
    folder = scratch / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    start = time.time()
    done = rayfed(folder, "run", "config.yaml", f"ray.address={ray_address}", timeout=2 * STARTED_S, more=CLUSTER)
    assert done.returncode == 0, done.stderr
    time.sleep(5 * SCRAPE_S)
    store = store_of(folder)
    [record] = store.runs()
    page = Page(prometheus, start, time.time())
    assert page.offered() == [record.id]
    page.run = record.id
    found = {name: page.values(query) for name, query in page.queries().items()}
    assert len(found) == sum(len(panel["targets"]) for panel in page.json["panels"]) == 15
    for name, series in found.items():
        assert series, name
        assert all(labels["run"] == record.id for labels, _ in series), name
        assert any(value == value for _, values in series for value in values), name
    assert_the_last_values_are_the_stores(found, store, record.id)
    assert_the_rules_are_evaluated(prometheus)


def assert_the_last_values_are_the_stores(found: dict[str, Any], store: Store, run_id: str) -> None:
    history = [metrics for round, metrics, _ in store.history(run_id) if round]
    last = {name: values[-1] for name, [(_, values), *_] in found.items()}
    assert last["Rounds finished A"] == len(history) == CONFIG["rounds"]
    assert last["Images per second A"] == history[-1]["images_per_s"]
    assert [last[f"Clients {letter}"] for letter in "ABC"] == [4, 0, 0]
    assert last["Simulated time A"] == history[-1]["sim_total_seconds"]
    assert last["Device hosts A"] >= 1
    [(labels, values)] = found["Evaluation A"]
    assert (labels["metric"], values[-1]) == ("fid_classifier", history[-1]["fid_classifier"])
    traffic = {labels["kind"]: values[-1] for labels, values in found["Traffic so far, by kind A"]}
    directions = ("bytes_up", "bytes_down", "bytes_across")
    assert sum(traffic.values()) == sum(metrics[name] for metrics in history for name in directions)
    assert {"fakes", "feedback"} <= traffic.keys()
    assert {labels["direction"] for labels, _ in found["Traffic by direction A"]} >= {"up", "down"}


def assert_the_rules_are_evaluated(prometheus: str) -> None:
    [group] = asked(prometheus, "rules")["groups"]
    states = {rule["name"]: (rule["health"], rule["state"]) for rule in group["rules"]}
    assert states == {"RayfedNoRound": ("ok", "inactive"), "RayfedDropped": ("ok", "inactive")}
