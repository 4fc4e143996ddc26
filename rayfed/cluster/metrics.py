"""A run's live metrics, which Ray hands to Prometheus; docs/monitoring.md has a table of them."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from ray.util.metrics import Counter, Gauge, Histogram

from rayfed.config import RunConfig
from rayfed.engine.callbacks import Callback, History
from rayfed.engine.checkpoint import Checkpoint
from rayfed.methods.spec import method_of
from rayfed.tasks.base import EvaluationResult, primary

TAGS = ("run", "method")
GAUGES = {
    "rayfed_round": "Rounds finished so far.",
    "rayfed_last_round_timestamp_seconds": "When the last round ended, or the run began, in seconds since 1970.",
    "rayfed_hosts": "Device hosts.",
    "rayfed_images_per_second": "Real images trained on, per second of the last round.",
    "rayfed_participants": "Clients whose replies counted in the last round.",
    "rayfed_dropped": "Clients chosen for the last round but without a reply that counted.",
    "rayfed_rejected": "Clients who sent something in the last round that did not pass the check.",
    "rayfed_simulated_seconds": "All rounds so far, on the twin.",
}
OF_A_ROUND = {
    "rayfed_images_per_second": "images_per_s",
    "rayfed_participants": "participants",
    "rayfed_dropped": "dropped",
    "rayfed_rejected": "rejected",
    "rayfed_simulated_seconds": "sim_total_seconds",
}
"""Gauges by the metrics of a checkpoint."""
BOUNDS = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0]
"""Of the histogram of rounds, in seconds."""
REFRESH_S = 5.0
"""Ray sends what was set every 10 seconds, and drops a gauge that was not sent for 20: a round may take longer."""


class LiveMetrics(Callback, AbstractContextManager["LiveMetrics"]):
    """A run's rounds in Ray's metrics, by run and method; to be open while they go on.

    A thread sets the gauges anew again and again, so that they are there for as long as the run is, and no longer.
    """

    def __init__(self, run_id: str, hosts: Callable[[], int]) -> None:
        """`hosts`: how many device hosts there are now."""
        self._run_id, self._hosts = run_id, hosts
        self._shown: dict[tuple[Gauge, str], float] = {}
        """Each gauge's value, by the gauge and the evaluation's metric, if it is of one."""
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="live metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def on_begin(self, config: RunConfig, history: History) -> None:
        def tagged(metric: Any) -> Any:
            return metric.set_default_tags({"run": self._run_id, "method": config.method.name})

        self._judges = method_of(config).task.metrics
        self._gauges = {name: tagged(Gauge(name, text, TAGS)) for name, text in GAUGES.items()}
        self._evaluation = tagged(Gauge("rayfed_evaluation", "What the run is judged by.", (*TAGS, "metric")))
        self._bytes = tagged(Counter("rayfed_bytes", "Encoded payloads.", (*TAGS, "direction", "kind")))
        self._seconds = tagged(Histogram("rayfed_round_seconds", "Rounds on the server.", BOUNDS, TAGS))
        self._stand(history[-1][0] if history else 0)

    def on_round(self, checkpoint: Checkpoint) -> None:
        self._stand(checkpoint.round)
        for name, metric in OF_A_ROUND.items():
            self._show(self._gauges[name], checkpoint.metrics[metric])
        for (direction, kind), nbytes in checkpoint.traffic.items():
            if nbytes:  # a counter takes no 0
                self._bytes.inc(nbytes, {"direction": direction, "kind": kind})
        self._seconds.observe(checkpoint.metrics["round_seconds"])

    def on_evaluation(self, result: EvaluationResult, pictures: Mapping[str, Path]) -> None:
        if metric := primary(self._judges, [[result.metrics]]):
            self._show(self._evaluation, result.metrics[metric.name], metric.name)

    def _stand(self, round: int) -> None:
        self._show(self._gauges["rayfed_round"], round)
        self._show(self._gauges["rayfed_last_round_timestamp_seconds"], time.time())
        self._show(self._gauges["rayfed_hosts"], self._hosts())

    def _show(self, gauge: Gauge, value: float, metric: str = "") -> None:
        with self._lock:
            self._shown[gauge, metric] = float(value)
            self._set(gauge, metric)

    def _set(self, gauge: Gauge, metric: str) -> None:
        gauge.set(self._shown[gauge, metric], {"metric": metric} if metric else {})

    def _refresh(self) -> None:
        while not self._over.wait(REFRESH_S):
            with self._lock:
                for gauge, metric in self._shown:
                    self._set(gauge, metric)
