"""Folders for the commands: a cache that is not the user's, and a short path for Ray's sockets."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the commands make their temporary folders; a socket's path may have 107 bytes, and pytest's are long."""
    folder = Path(tempfile.mkdtemp(prefix="e2e-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
