"""A run in MLflow: the driver's calls only queue; one thread sends, again and again while the server is away."""

import copy
import logging
import os
import queue
import re
import shlex
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import mlflow.pytorch
import numpy as np
import PIL.Image
import requests
import sqlalchemy
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_TAG_VAL_LENGTH

from rayfed import config
from rayfed.errors import UserError

_PROCESS_WIDE = threading.Lock()
"""Held while MLflow's process-wide tracking URI is another than the user's."""


class Tracker:
    """One MLflow run. Methods return at once, but for `close`, which waits for what the others queued."""

    def __init__(
        self,
        tracking: config.Tracking,
        default_uri: str,
        artifact_dir: str | None,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        run_id: str | None = None,
    ) -> None:
        """Start a run at tracking.uri, else MLFLOW_TRACKING_URI, else `default_uri`; or continue run `run_id`.

        A new experiment keeps its files in `artifact_dir`, unless a server decides that; long params and tags are cut.
        A continued run keeps its params and metrics. Raises UserError if the URI cannot be used or lacks that run.
        """
        self.uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri
        _quieten()
        try:
            if not self.uri.startswith("http"):
                _probe(self.uri)
            client = MlflowClient(self.uri)
            self.run_id = run_id or _start(client, tracking.experiment, artifact_dir, run_name, params)
            for key, value in tags.items():
                client.set_tag(self.run_id, key, str(value)[:MAX_TAG_VAL_LENGTH])
            client.update_run(self.run_id, status="RUNNING")
            self.experiment_id = client.get_run(self.run_id).info.experiment_id
            self._sent = _sent(client, run_id) if run_id else set()
        except Exception as error:
            raise UserError(
                f"tracking.uri = {mask(self.uri)!r}: cannot be used ({_reason(error)}); it must be a server that runs "
                "such as http://127.0.0.1:5000, or a database such as sqlite:///runs/mlflow.db"
            ) from None
        self._client = client
        self._sender = _Sender(client, self.run_id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of one step, NaN and infinities too; what a continued run has of it is not sent again."""
        now = int(time.time() * 1000)
        batch = [Metric(key, float(v), now, step) for key, v in metrics.items() if (key, step) not in self._sent]
        self._sender.put("metrics", batch, len(batch))

    def log_file(self, path: str | Path, folder: str | None = None) -> None:
        """Upload a file, which must stay as it is until it is sent, into a folder of the run's artifacts."""
        self._sender.put("files", partial(self._client.log_artifact, self.run_id, str(path), folder))

    def log_image(self, name: str, path: str | Path, step: int) -> None:
        """Show an image file in the run's charts under `name` at `step`."""
        image = PIL.Image.open(path).convert("RGB")
        self._sender.put("images", partial(self._client.log_image, self.run_id, image, key=name, step=step))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._sender.put("tags", partial(self._client.set_tag, self.run_id, name, value[:MAX_TAG_VAL_LENGTH]))

    def log_model(self, name: str, network: torch.nn.Module, input_shape: tuple[int, ...]) -> None:
        """Log a network, as it is now, as an MLflow model of inputs [n, *input_shape] float32, for any n."""
        frozen = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format).eval()
        self._sender.put("models", partial(_log_model, self._client, self.run_id, frozen, input_shape, name))

    def close(self, status: Literal["FINISHED", "KILLED", "FAILED"], timeout_s: float = 60) -> str | None:
        """End the run, at most `timeout_s` seconds later; one line if something could not be sent, else None."""
        self._sender.put("status", partial(self._client.set_terminated, self.run_id, status))
        lost = self._sender.close(timeout_s)
        return f"MLflow at {mask(self.uri)}: could not send {lost}" if lost else None

    def look(self) -> str:
        """How to look at the run: its page on a tracking server, else the command that opens MLflow on the database."""
        if self.uri.startswith("http"):
            return f"{mask(self.uri).rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"
        program = "mlflow" if shutil.which("mlflow") else os.path.relpath(Path(sys.executable).with_name("mlflow"))
        uri = mask(self.uri)
        here = f"sqlite:///{Path.cwd()}/"
        if uri.startswith(here):
            uri = f"sqlite:///{uri.removeprefix(here)}"
        return shlex.join([program, "ui", "--backend-store-uri", uri])


class NoTracker:
    """A Tracker that records nothing, for tracking.enabled = false."""

    uri = run_id = experiment_id = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def log_file(self, path: str | Path, folder: str | None = None) -> None: ...
    def log_image(self, name: str, path: str | Path, step: int) -> None: ...
    def set_tag(self, name: str, value: str) -> None: ...
    def log_model(self, name: str, network: torch.nn.Module, input_shape: tuple[int, ...]) -> None: ...
    def close(self, status: str, timeout_s: float = 60) -> None: ...
    def look(self) -> None: ...


class _Sender:
    """A thread that sends what is queued, in batches, again and again until it arrives."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._log_batch = partial(client.log_batch, run_id)
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._waiting: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._deadline = float("inf")
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="mlflow-sender", daemon=True)
        self._thread.start()

    def put(self, kind: str, item: list[Metric] | Callable[[], Any], count: int = 1) -> None:
        self._count(kind, count)
        self._queue.put((kind, item))

    def close(self, timeout_s: float) -> str | None:
        """What could not be sent within the time, and why."""
        self._deadline = time.monotonic() + timeout_s
        self._queue.put(None)  # the end
        self._thread.join(timeout_s)
        left = [f"{count} {kind}" for kind, count in self._waiting.copy().items() if count]
        return f"{', '.join(left)} ({_reason(self._error)})" if left else None

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
    if isinstance(error, MlflowException):
        status: int = error.get_http_status_code()
        return 400 <= status < 500 and status != 429
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500
    return isinstance(error, FileNotFoundError) or not isinstance(error, OSError)


def _start(client: MlflowClient, experiment: str, folder: str | None, name: str, params: Mapping[str, Any]) -> str:
    """Start a run in the experiment of this name, made if it is not there; the run's id."""
    found = client.get_experiment_by_name(experiment)
    local = None if folder is None or client.tracking_uri.startswith("http") else Path(folder).absolute().as_uri()
    experiment_id = found.experiment_id if found else client.create_experiment(experiment, local)
    run_id: str = client.create_run(experiment_id, run_name=name).info.run_id
    client.log_batch(run_id, params=[Param(key, str(v)[:MAX_PARAM_VAL_LENGTH]) for key, v in params.items()])
    return run_id


def _sent(client: MlflowClient, run_id: str) -> set[tuple[str, int]]:
    """(metric, step) of all that a run has already."""
    names = client.get_run(run_id).data.metrics
    return {(name, metric.step) for name in names for metric in client.get_metric_history(run_id, name)}


def _log_model(
    client: MlflowClient, run_id: str, network: torch.nn.Module, input_shape: tuple[int, ...], name: str
) -> None:
    example = np.zeros((2, *input_shape), np.float32)  # torch.export would fix a batch of 1 for ever
    shape = network(torch.from_numpy(example)).shape[1:]
    inputs, outputs = (Schema([TensorSpec(np.dtype("float32"), (-1, *sizes))]) for sizes in (input_shape, shape))
    packages = [f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"]
    arguments = {"signature": ModelSignature(inputs, outputs), "input_example": example, "pip_requirements": packages}
    model = client.create_logged_model(client.get_run(run_id).info.experiment_id, name, run_id)
    with _PROCESS_WIDE:
        before: Any = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(client.tracking_uri)  # log_model knows only the process-wide one
        try:
            mlflow.pytorch.log_model(network, name=name, model_id=model.model_id, run_id=run_id, **arguments)
        finally:
            mlflow.set_tracking_uri(before)


def _probe(uri: str) -> None:
    """Fail at once where MLflow would try to reach a database for minutes."""
    url = sqlalchemy.make_url(uri)
    if url.drivername.startswith("sqlite") and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    sqlalchemy.inspect(sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)).get_table_names()


def _quieten() -> None:
    """Keep MLflow and its migrations off the terminal, and its own retries short."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def nested(parent: Tracker | NoTracker) -> dict[str, str]:
    """The tags of a run that MLflow shows under `parent`."""
    return {MLFLOW_PARENT_RUN_ID: parent.run_id} if parent.run_id else {}


def metric_name(text: str) -> str:
    """A text as MLflow takes it in a metric's name: what it refuses becomes an underscore."""
    return re.sub(r"[^\w .:-]", "_", text)


def mask(value: Any) -> Any:
    """A URI without its password; anything else as it is."""
    return re.sub(r":[^:@/]*@", ":***@", value) if isinstance(value, str) else value


def _reason(error: Exception | None) -> str:
    """An error in one short line."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition("Caused by ")[-1].rstrip("()'\"")[:300]
