"""The files in dashboards/ by themselves; that they fit what a run exports is in e2e/test_monitoring.py."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "dashboards"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not here; it is in Debian's package prometheus")
    return subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True)


def test_the_dashboard_is_what_its_program_writes() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "dashboard.py", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_grafanas_types_know_every_key_of_the_dashboard() -> None:
    """What they do not know would be missing from what they write."""
    register_default_plugins()
    text = json.loads((FOLDER / "rayfed.json").read_text())
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(text))) == text
    assert len(text["panels"]) == 12


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    checked = promtool("check", "rules", "rules.yml")
    assert checked.returncode == 0, checked.stderr
    assert "2 rules found" in checked.stdout
    tested = promtool("test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("rule", "other"),
    [("10 * histogram", "9 * histogram"), ("60\n", "50\n"), ("> 0.5", ">= 0.5"), ("for: 1m", "for: 10s")],
)
def test_the_rules_tests_find_other_rules(rule: str, other: str, tmp_path: Path) -> None:
    text = (FOLDER / "rules.yml").read_text()
    assert text.count(rule) == 1
    (tmp_path / "rules.yml").write_text(text.replace(rule, other))
    shutil.copy(FOLDER / "rules_test.yml", tmp_path)
    assert promtool("test", "rules", str(tmp_path / "rules_test.yml")).returncode == 1


def test_prometheus_reads_its_configuration() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
