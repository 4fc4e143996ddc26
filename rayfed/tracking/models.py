"""Networks as MLflow's models: logged with their run, and registered as versions with the aliases `last` and `best`."""

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

VALUE, TERMS = "value", "judged_by"
"""Tags of a version."""
_PROCESS_WIDE = threading.Lock()
"""Held while MLflow's process-wide tracking URI is another than the user's."""


@dataclass(frozen=True)
class Judged:
    """What a network is worth."""

    value: float
    lower_is_better: bool
    terms: str
    """What the value is of and was measured with: values compare where all of it is the same."""


def registered_name(task: str, data: str) -> str:
    """The registered model of a task's networks that were trained on this data set: rayfed-TASK-DATA."""
    return "rayfed-" + re.sub(r"[^\w.-]+", "-", f"{task}-{data}")


def log_model(
    client: "MlflowClient", run_id: str, network: "torch.nn.Module", input_shape: tuple[int, ...], name: str
) -> None:
    """Log a network in evaluation mode, on the CPU, as a model of inputs [n, *input_shape] float32, for any n."""
    import mlflow.pytorch
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    example = np.zeros((2, *input_shape), np.float32)  # torch.export would fix a batch of 1 for ever
    shape = network(torch.from_numpy(example)).shape[1:]
    inputs, outputs = (Schema([TensorSpec(np.dtype("float32"), (-1, *sizes))]) for sizes in (input_shape, shape))
    packages = [f"torch=={torch.__version__.split('+')[0]}", f"numpy=={np.__version__}"]
    arguments = {"signature": ModelSignature(inputs, outputs), "input_example": example, "pip_requirements": packages}
    model = client.create_logged_model(client.get_run(run_id).info.experiment_id, name, run_id)
    with _process_wide(client):
        mlflow.pytorch.log_model(network, name=name, model_id=model.model_id, run_id=run_id, **arguments)


def register(client: "MlflowClient", run_id: str, network: str, name: str, judged: Judged | None) -> None:
    """Make the run's newest model of the name `network` a version of the registered model `name`.

    Of its versions `last` is the newest, and `best` the best of those that were judged on the newest one's terms.
    Again it changes nothing. Raises LookupError if the run has no such model.
    """
    experiment_id = client.get_run(run_id).info.experiment_id
    newest = [{"field_name": "creation_timestamp", "ascending": False}]
    logged = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'", order_by=newest)
    model = next((each for each in logged if each.name == network), None)
    if model is None:
        raise LookupError(f"run {run_id} has no model {network!r}")
    _make(client, name)
    versions = list(client.search_model_versions(f"name = '{name}'"))
    last = next((each for each in versions if each.source == model.model_uri), None)
    if last is None:
        tags = {VALUE: repr(judged.value), TERMS: judged.terms} if judged else {}
        with _process_wide(client):
            last = client.create_model_version(name, model.model_uri, run_id, tags=tags, model_id=model.model_id)
        versions.append(last)
    client.set_registered_model_alias(name, "last", last.version)
    if judged:
        client.set_registered_model_alias(name, "best", _best(versions, judged).version)


@contextmanager
def _process_wide(client: "MlflowClient") -> Iterator[None]:
    """Where MLflow knows only one tracking URI for the whole process, this client's."""
    import mlflow

    with _PROCESS_WIDE:
        before: Any = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(client.tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


def _make(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # it may be there: what else is wrong the next call says
        client.create_registered_model(name)


def _best(versions: "Sequence[ModelVersion]", judged: Judged) -> "ModelVersion":
    """The oldest of the best versions on these terms."""
    alike = sorted((each for each in versions if each.tags.get(TERMS) == judged.terms), key=lambda v: int(v.version))
    return (min if judged.lower_is_better else max)(alike, key=lambda version: float(version.tags[VALUE]))
