"""What must stand before anything imports ray or torch computes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rayfed.cluster import prepare_environment
from tests import postgres
from tests.inception import WEIGHTS  # noqa: F401  takes them out of the environment

prepare_environment(None)
torch.set_num_threads(1)  # as in every actor: sums do not depend on the cores of the machine


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A server of the tests' own."""
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/folder/store.db"
    return postgres.database(request.getfixturevalue("postgresql"))
