"""What Ray exports of a run's rounds, as Prometheus would read it from the node."""

import time
from collections.abc import Callable
from urllib.request import urlopen

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from rayfed.cluster import metrics
from rayfed.cluster.metrics import LiveMetrics
from rayfed.config import parse
from rayfed.engine.checkpoint import Checkpoint
from rayfed.methods.state import State
from rayfed.tasks.base import EvaluationResult

pytestmark = pytest.mark.usefixtures("cluster")

KEPT_S = 2
"""Ray drops a gauge that was not set for two of its intervals, which `cluster` makes a second long."""
WAIT_S = 60
CONFIG = parse({"method": {"name": "md-gan"}})


def exported(run_id: str) -> dict[tuple[str, ...], float]:
    """The run's values, by the metric's name and the labels that tell it from others of that name."""
    [node] = ray.nodes()
    with urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.labels.get("run") == run_id]
    assert {sample.labels["method"] for sample in samples} <= {"md-gan"}
    names = ("metric", "direction", "kind", "le")
    return {(s.name, *(s.labels[name] for name in names if name in s.labels)): s.value for s in samples}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def checkpoint(round: int, seconds: float, dropped: int) -> Checkpoint:
    shown = {"images_per_s": 12.5, "participants": 8 - dropped, "dropped": dropped, "rejected": 1}
    rest = {"sim_total_seconds": 100.0 * round, "round_seconds": seconds, "loss_g": 0.5}
    traffic = {("down", "fakes"): 700, ("up", "feedback"): 30, ("across", "model"): 0}
    return Checkpoint(State(round, {}), (), {}, metrics=shown | rest, traffic=traffic)


@pytest.mark.slow
def test_the_figures_of_a_run_are_there_while_it_goes_on_and_gone_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of 0.15 and 7 seconds; then none for longer than Ray keeps a gauge. Another run is beside it."""
    monkeypatch.setattr(metrics, "REFRESH_S", 0.2)
    hosts = [2]
    with LiveMetrics("one", lambda: hosts[0]) as live, LiveMetrics("other", lambda: 1) as other:
        other.on_begin(CONFIG, [(6, {}), (7, {})])
        live.on_begin(CONFIG, ())
        wait_for(lambda: ("ray_rayfed_round",) in exported("one"))
        assert exported("one")["ray_rayfed_round",] == 0
        live.on_round(checkpoint(1, 0.15, dropped=3))
        hosts[0] = 3
        live.on_round(checkpoint(2, 7.0, dropped=2))
        ended = time.time()
        live.on_evaluation(EvaluationResult(0, {}, {}), {})
        live.on_evaluation(EvaluationResult(2, {"fid": 31.5, "fid_classifier": 9.0}, {}), {})
        wait_for(lambda: exported("one").get(("ray_rayfed_evaluation", "fid")) == 31.5)
        time.sleep(3 * KEPT_S)
        found = exported("one")
        assert exported("other")["ray_rayfed_round",] == 7
    assert found.pop(("ray_rayfed_last_round_timestamp_seconds",)) == pytest.approx(ended, abs=1)
    buckets = {name: found.pop(name) for name in list(found) if name[0].startswith("ray_rayfed_round_seconds")}
    bounds = [("ray_rayfed_round_seconds_bucket", bound) for bound in ("0.1", "0.2", "5.0", "10.0")]
    assert [buckets[bound] for bound in bounds] == [0, 1, 1, 2]
    assert found == {
        ("ray_rayfed_round",): 2,
        ("ray_rayfed_hosts",): 3,
        ("ray_rayfed_images_per_second",): 12.5,
        ("ray_rayfed_participants",): 6,
        ("ray_rayfed_dropped",): 2,
        ("ray_rayfed_rejected",): 1,
        ("ray_rayfed_simulated_seconds",): 200,
        ("ray_rayfed_evaluation", "fid"): 31.5,
        ("ray_rayfed_bytes_total", "down", "fakes"): 1400,
        ("ray_rayfed_bytes_total", "up", "feedback"): 60,
    }
    wait_for(lambda: ("ray_rayfed_round",) not in exported("one"))
