"""`ray up` to its end, against an EC2 of moto: the node that it asks for, and the commands that it runs there.

The addresses of moto's nodes are invented, so `ssh` and `rsync` are stubs that note what they are asked to do.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.infra.aws import ROOT, client

STUB = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >> "$STUB_LOG"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with its own keys, and stubs to go first in PATH."""
    (tmp_path / "bin").mkdir()
    for name in ("ssh", "rsync"):
        (tmp_path / "bin" / name).write_text(STUB)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def ray_up(home: Path, file: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    own = {
        "HOME": str(home),
        "STUB_LOG": str(home / "log"),
        "PATH": f"{home}/bin:{environment['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "up", "-y", "--no-config-cache", str(file)]
    return subprocess.run(command, cwd=ROOT, env=environment | own, capture_output=True, text=True, timeout=500)


def in_order(texts: list[str], log: str) -> bool:
    """Whether the log has each text, after the one before it."""
    return re.search(".*?".join(map(re.escape, texts)), log, re.DOTALL) is not None


@pytest.mark.slow
def test_ray_up_makes_a_head_and_runs_the_files_commands_on_it(environment: dict[str, str], home: Path) -> None:
    done = ray_up(home, ROOT / "cluster.yaml", environment)
    assert done.returncode == 0, done.stdout + done.stderr
    [reservation] = client(environment, "ec2").describe_instances()["Reservations"]
    [node] = reservation["Instances"]
    assert node["InstanceType"] == "m7i.xlarge"
    assert node["IamInstanceProfile"]["Arn"].endswith("/rayfed-head")
    log = (home / "log").read_text()
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    copied = {f"{source}/" if (ROOT / source).is_dir() else source for source in config["file_mounts"].values()}
    assert copied <= {word for line in log.splitlines() if line.startswith("rsync") for word in line.split()}
    steps = config["setup_commands"] + [step.strip() for step in config["head_start_ray_commands"]]
    assert len(steps) == 5
    assert in_order(steps, log)
    assert "pip install 'boto3" not in log  # Ray's own set-up of a head


@pytest.mark.slow
def test_a_misspelt_key_of_a_node_ends_ray_up(environment: dict[str, str], home: Path) -> None:
    text = (ROOT / "cluster.yaml").read_text().replace("InstanceType: m7i", "InstanceTyp: m7i")
    (home / "cluster.yaml").write_text(text)
    done = ray_up(home, home / "cluster.yaml", environment)
    assert done.returncode != 0
    assert 'Unknown parameter in input: "InstanceTyp"' in done.stdout + done.stderr
