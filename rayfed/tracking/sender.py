"""One thread that sends what a run queues for MLflow, again and again while the server is away."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric


class Sender:
    """A thread that sends what is queued, in batches, again and again until it arrives."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._log_batch = partial(client.log_batch, run_id)
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._deadline = float("inf")
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
        self._thread.start()

    def put(self, kind: str, item: "list[Metric] | Callable[[], Any]", count: int = 1) -> None:
        self._count(kind, count)
        self._queue.put((kind, item))

    def end(self, timeout_s: float) -> None:
        """Nothing more will be queued, and what is must be sent within the time."""
        self._deadline = time.monotonic() + timeout_s
        self._queue.put(None)  # the end

    def wait(self) -> str | None:
        """After `end`: what could not be sent within the time, and why."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        left = [f"{count} {kind}" for kind, count in self._waiting.copy().items() if count]
        return f"{', '.join(left)} ({reason(self._error)})" if left else None

    def _count(self, kind: str, change: int) -> None:
        with self._lock:
            self._waiting[kind] += change

    def _work(self) -> None:
        items: list[Any] = []
        while None not in items:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            metrics = [metric for kind, batch in filter(None, items) if kind == "metrics" for metric in batch]
            if not self._send("metrics", len(metrics), partial(self._log_batch, metrics)):
                for metric in metrics:  # a refused one must not take the others with it
                    self._send("metrics", 1, partial(self._log_batch, [metric]))
            for kind, call in filter(None, items):
                if kind != "metrics":
                    self._send(kind, 1, call)

    def _send(self, kind: str, count: int, call: Callable[[], Any]) -> bool:
        """Try until it is done, refused for good, or too late."""
        pause = 0.1
        while True:
            try:
                call()
                self._count(kind, -count)
                return True
            except Exception as error:
                self._error = error
                if _is_refused(error) or time.monotonic() + pause > self._deadline:
                    return False
            time.sleep(pause)
            pause = min(2 * pause, 2.0)


def _is_refused(error: Exception) -> bool:
    """Whether trying again is no use: the request or the file is wrong, not the connection."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()
        return 400 <= status < 500 and status != 429
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500
    return isinstance(error, FileNotFoundError) or not isinstance(error, OSError)


def reason(error: Exception | None) -> str:
    """An error in one short line."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition("Caused by ")[-1].rstrip("()'\"")[:300]
