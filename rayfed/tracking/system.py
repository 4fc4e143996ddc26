"""This machine's CPU, memory and GPUs, sampled beside a run for MLflow's page "System metrics"."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

INTERVAL_S = 10.0
"""MLflow's, where MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says nothing else."""
PREFIX = "system/"
"""Of the metrics' names, by which MLflow keeps them apart."""


class SystemMonitor:
    """A thread that samples in MLflow's own words, e.g. `system/gpu_0_utilization_percentage`, until it is stopped."""

    def __init__(self, log: Callable[[int, Mapping[str, float]], None], began: float) -> None:
        """Call `log` with each sample; its step is the seconds since `began`, a time in seconds since the epoch."""
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
        from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        self._log, self._began = log, began
        self._interval_s = float(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL_S)
        self._monitors: list[BaseMetricsMonitor] = [CPUMonitor()]
        with suppress(ImportError, RuntimeError):  # no NVIDIA driver
            self._monitors.append(GPUMonitor())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mlflow-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No sample is logged after this."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.wait(self._interval_s):
            sample: dict[str, float] = {}
            for monitor in list(self._monitors):
                try:
                    monitor.collect_metrics()
                    sample |= monitor.aggregate_metrics()
                    monitor.clear_metrics()
                except Exception:  # whatever a driver raises: a GPU that is lost is no reason to lose the rest
                    self._monitors.remove(monitor)
            self._log(int(time.time() - self._began), {PREFIX + name: value for name, value in sample.items()})
