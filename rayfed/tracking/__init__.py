"""A run in MLflow. The driver's calls only queue: `rayfed.tracking.sender` sends.

MLflow takes a second to import, which happens when a tracker, or an input, is first made.
"""

import copy
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import PIL.Image

from rayfed import config, rayjob
from rayfed.errors import UserError, mask
from rayfed.tasks.base import Metric
from rayfed.tracking.client import connect, experiment_of
from rayfed.tracking.models import Judged, log_model, register
from rayfed.tracking.origin import Input, source_tags
from rayfed.tracking.pages import EXPERIMENT_KIND, charts_page, charts_view, run_page
from rayfed.tracking.sender import Sender, reason
from rayfed.tracking.system import PREFIX, SystemMonitor

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient

FITTING = (640, 640)
"""Pixels of an image in a description, which MLflow shows as large as it is."""


class Tracker:
    """One MLflow run. Methods return at once, but for `wait` and `close`, which wait for what the others queued."""

    def __init__(
        self,
        tracking: config.Tracking,
        default_uri: str,
        artifact_dir: str | None,
        run_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        run_id: str | None = None,
        until: int | None = None,
    ) -> None:
        """Start a run at tracking.uri, else MLFLOW_TRACKING_URI, else `default_uri`; or continue run `run_id`.

        A new experiment keeps its files in `artifact_dir`, unless a server decides that; long params and tags are cut.
        A continued run keeps its params and metrics, or those up to round `until`. Raises UserError if the URI cannot
        be used or lacks that run.
        """
        self.uri = _uri(tracking, default_uri)
        try:
            client = connect(self.uri)
            self.run_id = run_id or _start(client, tracking.experiment, artifact_dir, run_name, params)
            for key, value in tags.items():
                client.set_tag(self.run_id, key, _tag(value))
            client.update_run(self.run_id, status="RUNNING")
            info = client.get_run(self.run_id).info
            self._sent = _sent(client, run_id, until) if run_id else set()
        except Exception as error:
            raise UserError(
                f"tracking.uri = {mask(self.uri)!r}: cannot be used ({reason(error)}); it must be a server that runs "
                "such as http://127.0.0.1:5000, or a database such as sqlite:///runs/mlflow.db"
            ) from None
        self.experiment_id = info.experiment_id
        self._page = run_page(self.experiment_id, self.run_id)
        self._began = info.start_time / 1000
        self._monitor: SystemMonitor | None = None
        self._client = client
        self._sender = Sender(client, self.run_id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics of one step, NaN and infinities too; what a continued run has of it is not sent again."""
        from mlflow import entities

        now = int(time.time() * 1000)
        new = {key: value for key, value in metrics.items() if (key, step) not in self._sent}
        batch = [entities.Metric(key, float(value), now, step) for key, value in new.items()]
        self._sender.put("metrics", batch, len(batch))

    def watch_system(self) -> None:
        """Record this machine's CPU, memory and GPUs every ten seconds, until the run ends."""
        self._monitor = SystemMonitor(self.log, self._began)

    def log_file(self, path: str | Path, folder: str | None = None) -> None:
        """Upload a file, which must stay as it is until it is sent, into a folder of the run's artifacts."""
        self._sender.put("files", partial(self._client.log_artifact, self.run_id, str(path), folder))

    def log_image(self, name: str, path: str | Path, step: int) -> None:
        """Show an image file, which must stay as it is until it is sent, in the run's charts under `name` at `step`."""
        self._sender.put("images", partial(_log_image, self._client, self.run_id, path, key=name, step=step))

    def describe(self, text: str, images: Mapping[str, str | Path]) -> None:
        """Head the run's page with a text and image files, each made to fit and kept as the artifact NAME.png.

        The files must stay as they are until they are sent. An earlier description is replaced if it begins with the
        same word: one that a user wrote stays.
        """
        for name, path in images.items():
            send = partial(_log_image, self._client, self.run_id, path, FITTING, artifact_file=f"{name}.png")
            self._sender.put("images", send)
        links = [f"![{name}](get-artifact?path={quote(name)}.png&run_uuid={self.run_id})" for name in images]
        self._sender.put("tags", partial(_describe, self._client, self.run_id, "\n\n".join([text, *links])))

    def log_input(self, data: Input) -> None:
        """Show a data set, from `input_of`, as the run's; that of a continued run stays one."""
        self._sender.put("inputs", partial(self._client.log_inputs, self.run_id, [data]))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._sender.put("tags", partial(self._client.set_tag, self.run_id, name, _tag(value)))

    def log_model(self, name: str, network: "torch.nn.Module", input_shape: tuple[int, ...]) -> None:
        """Log a network, as it is now, as an MLflow model of inputs [n, *input_shape] float32, for any n."""
        import torch

        frozen = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format).eval()
        self._sender.put("models", partial(log_model, self._client, self.run_id, frozen, input_shape, name))

    def register(self, network: str, name: str, judged: Judged | None) -> None:
        """Make the network that was logged last under the name `network` a version of the registered model `name`.

        It gets the alias `last`, and the best of those that are judged as it is gets `best`. None means not judged.
        """
        self._sender.put("versions", partial(register, self._client, self.run_id, network, name, judged))

    def show_charts(self, comparison: str, metrics: Iterable[Metric], pictures: Iterable[str], last: int) -> str:
        """Make the charts of a comparison's runs its page, and return their address; see `charts_view`."""
        for key, value in charts_view(comparison, metrics, pictures, last).items():
            self._sender.put("tags", partial(self._client.set_experiment_tag, self.experiment_id, key, value))
        self._page = charts_page(self.experiment_id, comparison)
        return self._page

    def end(self, status: Literal["FINISHED", "KILLED", "FAILED"] | None, timeout_s: float = 60) -> None:
        """End the run, at most `timeout_s` seconds later; nothing can be queued any more.

        None leaves the run's status to another process, which goes on with it.
        """
        if self._monitor:
            self._monitor.stop()
        if status is not None:
            self._sender.put("status", partial(self._client.set_terminated, self.run_id, status))
        self._sender.end(timeout_s)

    def wait(self) -> str | None:
        """After `end`: wait until all is sent; one line if something could not be sent, else None."""
        lost = self._sender.wait()
        return f"MLflow at {mask(self.uri)}: could not send {lost}" if lost else None

    def close(self, status: Literal["FINISHED", "KILLED", "FAILED"], timeout_s: float = 60) -> str | None:
        """End the run and wait."""
        self.end(status, timeout_s)
        return self.wait()

    def look(self) -> str:
        """How to look at the run: its page on a tracking server, else the command that opens MLflow on the database."""
        if self.uri.startswith("http"):
            return f"{mask(self.uri).rstrip('/')}/{self._page}"
        in_path = shutil.which("mlflow") or rayjob.is_driver()  # a job's own environment does not last
        program = "mlflow" if in_path else os.path.relpath(Path(sys.executable).with_name("mlflow"))
        uri = mask(self.uri).replace(f"sqlite:///{Path.cwd()}/", "sqlite:///")
        return shlex.join([program, "ui", "--backend-store-uri", uri])


class NoTracker:
    """A Tracker that records nothing, for tracking.enabled = false."""

    uri = run_id = experiment_id = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def watch_system(self) -> None: ...
    def log_file(self, path: str | Path, folder: str | None = None) -> None: ...
    def log_image(self, name: str, path: str | Path, step: int) -> None: ...
    def describe(self, text: str, images: Mapping[str, str | Path]) -> None: ...
    def log_input(self, data: Input) -> None: ...
    def set_tag(self, name: str, value: str) -> None: ...
    def log_model(self, name: str, network: "torch.nn.Module", input_shape: tuple[int, ...]) -> None: ...
    def register(self, network: str, name: str, judged: Judged | None) -> None: ...
    def show_charts(self, comparison: str, metrics: Iterable[Metric], pictures: Iterable[str], last: int) -> None: ...
    def end(self, status: str | None, timeout_s: float = 60) -> None: ...
    def wait(self) -> None: ...
    def close(self, status: str, timeout_s: float = 60) -> None: ...
    def look(self) -> None: ...


def open_database(tracking: config.Tracking, default_uri: str) -> None:
    """Import MLflow and bring its database up to date, which takes seconds, so that a Tracker is made at once.

    Raises whatever is wrong with the URI: a Tracker says it in one line.
    """
    connect(_uri(tracking, default_uri))


def _uri(tracking: config.Tracking, default_uri: str) -> str:
    return tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri


def _tag(value: Any) -> str:
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    return str(value)[:MAX_TAG_VAL_LENGTH]


def _start(client: "MlflowClient", experiment: str, folder: str | None, name: str, params: Mapping[str, Any]) -> str:
    """Start a run in the experiment of this name, made if it is not there; the run's id.

    The experiment is one of model training, unless somebody has said otherwise.
    """
    from mlflow.entities import Param
    from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

    found = experiment_of(client, experiment, folder)
    for kind, value in EXPERIMENT_KIND.items():
        if kind not in found.tags:
            client.set_experiment_tag(found.experiment_id, kind, value)
    run_id: str = client.create_run(found.experiment_id, run_name=name, tags=source_tags()).info.run_id
    client.log_batch(run_id, params=[Param(key, str(v)[:MAX_PARAM_VAL_LENGTH]) for key, v in params.items()])
    return run_id


def _sent(client: "MlflowClient", run_id: str, until: int | None) -> set[tuple[str, int]]:
    """(metric, step) of all that a run has already, but for what is sampled of its machine."""
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith(PREFIX)]
    steps = {(name, metric.step) for name in names for metric in client.get_metric_history(run_id, name)}
    return {(name, step) for name, step in steps if until is None or step <= until}


def _log_image(
    client: "MlflowClient", run_id: str, path: str | Path, fitting: tuple[int, int] | None = None, **where: Any
) -> None:
    """Send an image file, grey or in colours, made to fit if need be."""
    image: PIL.Image.Image = PIL.Image.open(path)
    if image.mode != "L":
        image = image.convert("RGB")
    if fitting:
        image.thumbnail(fitting)
    client.log_image(run_id, image, **where)


def _describe(client: "MlflowClient", run_id: str, text: str) -> None:
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    old = client.get_run(run_id).data.tags.get(MLFLOW_RUN_NOTE)
    if not old or old.split()[:1] == text.split()[:1]:
        client.set_tag(run_id, MLFLOW_RUN_NOTE, text)


def nested(parent: Tracker | NoTracker) -> dict[str, str]:
    """The tags of a run that MLflow shows under `parent`."""
    if not parent.run_id:
        return {}
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    return {MLFLOW_PARENT_RUN_ID: parent.run_id}
