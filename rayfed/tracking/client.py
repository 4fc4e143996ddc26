"""MLflow's client: its first for a database migrates that, and two runs may make an experiment at once."""

import logging
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy
from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_OPENING = threading.Lock()
"""Held while a database is migrated, once."""


def connect(uri: str) -> "MlflowClient":
    """A client; its first for a database migrates it, which MLflow does not keep other processes from."""
    from mlflow import MlflowClient

    _quieten()
    file = None if uri.startswith("http") else _probe(uri)
    with _OPENING, FileLock(f"{file}.lock") if file else nullcontext():
        return MlflowClient(uri)


def experiment_of(client: "MlflowClient", name: str, folder: str | None) -> "Experiment":
    """The experiment of this name; made if it is not there, its files then in `folder`, unless a server decides."""
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(name):
        return found
    local = None if folder is None or client.tracking_uri.startswith("http") else Path(folder).absolute().as_uri()
    try:
        return client.get_experiment(client.create_experiment(name, local))
    except MlflowException:
        if made := client.get_experiment_by_name(name):  # by another run, just now
            return made
        raise


def _probe(uri: str) -> str | None:
    """Fail at once where MLflow would try to reach a database for minutes; the path of one that is a file."""
    url = sqlalchemy.make_url(uri)
    file = url.database if url.drivername.startswith("sqlite") else None
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    sqlalchemy.inspect(sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)).get_table_names()
    return file


def _quieten() -> None:
    """Keep MLflow and its migrations off the terminal, and its own retries short."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
