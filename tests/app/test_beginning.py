"""What goes on beside the start of Ray, and what is left of a run that is refused meanwhile."""

import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
import yaml

from tests.test_cli import TINY


def test_what_comes_before_the_start_of_ray_imports_neither_torch_nor_mlflow():
    code = (
        "import sys, rayfed.api, rayfed.app.beginning, rayfed.console.display\n"
        "print([each for each in ('torch', 'mlflow', 'matplotlib', 'pandas') if each in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.slow
def test_a_run_refused_while_ray_starts_leaves_no_ray_and_no_mlflow(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"tracking": {"enabled": True}}))
    keys = ["data.name=npz:no-such-file.npz", "runs_dir=runs"]
    with tempfile.TemporaryDirectory() as folder:  # Ray's sockets need a short path
        monkeypatch.setenv("TMPDIR", folder)
        command = [sys.executable, "-m", "rayfed", "run", "tiny.yaml", *keys]
        refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert list(Path(folder).glob("rayfed-ray-*")) == []
        assert [process for process in psutil.process_iter() if folder in " ".join(_words(process))] == []
    assert (refused.returncode, refused.stdout) == (2, "")
    [line] = refused.stderr.splitlines()
    assert line.startswith("rayfed: ")
    assert "no-such-file.npz" in line
    assert not (tmp_path / "runs").exists()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
