"""What of a working directory goes to the cluster."""

import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from rayfed.cluster import packing
from rayfed.cluster.packing import pack
from rayfed.errors import UserError

SENT = {"jobs/a.yaml", "own.py", "parts.csv", "rayfed/data/datasets.py", "rayfed/data/assets/images.npz"}
NOT_SENT = {
    ".git/config",
    ".venv/bin/python",
    "rayfed-runs/rayfed.db",
    "elsewhere/rayfed.db",
    "my-runs/fegan-1/samples.png",
    "mlruns/0/meta.yaml",
    "__pycache__/own.pyc",
    "data/images.npz",
    "generator.pt2",
    "ignored/x.py",
    "unwanted.py",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    for name in SENT | NOT_SENT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("ignored/\n")
    (folder / ".rayignore").write_text("unwanted.py\n")
    return folder


def packed(folder: Path, *always: Path) -> set[str]:
    file = folder.parent / "package.zip"
    pack(folder, file, always, ["/my-runs"])
    with ZipFile(file) as package:
        return set(package.namelist())


def test_code_is_sent_and_runs_data_and_what_is_ignored_are_not(folder):
    assert packed(folder) - {".gitignore", ".rayignore"} == SENT


def test_what_the_job_needs_is_sent_in_any_case(folder):
    """A file that is data, one that is ignored, and one that would be sent anyway, once."""
    found = packed(folder, Path("data"), Path("ignored/x.py"), Path("own.py"))
    assert found - {".gitignore", ".rayignore"} == SENT | {"data/images.npz", "ignored/x.py"}


def test_more_than_ray_takes_is_one_line_that_names_the_largest_files(folder, monkeypatch):
    monkeypatch.setattr(packing, "LIMIT", 2**20)
    (folder / "large.bin").write_bytes(os.urandom(2**20))
    with pytest.raises(UserError) as caught:
        packed(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder}: is sent to the cluster, and is more than the 1 MiB that Ray takes (")
    assert "large.bin 1 MiB" in text
    assert "\n" not in text
