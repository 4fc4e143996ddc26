"""The beginning and the end of a run: what can go on beside the start and the end of Ray does.

Importing this module imports neither torch nor mlflow.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rayfed.cluster.connection import connected
from rayfed.config import RunConfig
from rayfed.startup import without_collections

if TYPE_CHECKING:
    from rayfed.app.open_run import RunWatcher
    from rayfed.data.setup import Federation


@dataclass(frozen=True)
class Begun:
    """What a run begins with."""

    federation: "Federation"
    last: ExitStack = field(default_factory=ExitStack)
    """What has begun to close and is waited for when Ray is down."""


@contextmanager
def begun(config: RunConfig, local: bool, watcher: "RunWatcher") -> Iterator[Begun]:
    """Ray for the length of a run, and beside its start the imports, the data on its devices and MLflow's database.

    Raises UserError for what cannot be; Ray is then down again.
    """
    with ExitStack() as last, ThreadPoolExecutor(1) as beside:
        loading = beside.submit(_load, config, local, watcher)
        beside.submit(_open_database, config, loading)
        with nullcontext() if local else connected(config.ray):
            yield Begun(loading.result(), last)


@without_collections()
def _load(config: RunConfig, local: bool, watcher: "RunWatcher") -> "Federation":
    import sqlalchemy.orm  # noqa: F401  not beside a first query: SQLAlchemy asks its half-imported module

    import rayfed.app.run  # noqa: F401
    from rayfed.app.preparation import prepared

    federation = prepared(config, watcher.notice)
    if not local:
        watcher.waits_for("starting Ray")  # not before: what is refused is told in one line
    return federation


@without_collections()
def _open_database(config: RunConfig, loading: "Future[Federation]") -> None:
    """Nothing for a run that is refused; what is wrong with the database is told when its tracker is made."""
    from rayfed.app.run import open_database

    loading.result()
    open_database(config)
