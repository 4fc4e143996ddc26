"""The jobs of a cluster as a table."""

import pytest

from rayfed.cluster.jobs import Job
from rayfed.console import listing
from rayfed.console.listing import job_text, jobs_text

COMMAND = "/opt/venv/bin/python -m rayfed run jobs/demo.yaml rounds=3 method.iterations=3 --id fegan-bc1234-resume-1"


def job(**own: object) -> Job:
    known = {"id": "fegan-bc1234-resume-1", "state": "succeeded", "command": COMMAND, "began": 1e9, "ended": 1e9 + 60}
    return Job(**known | {"exit_code": 0, "message": "", "metadata": {}} | own)  # type: ignore[arg-type]


def test_of_a_narrow_table_only_the_command_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WIDE", 90)
    header, first, second = jobs_text([job(), job(id="a", state="failed", exit_code=2)]).splitlines()
    assert header.split() == ["job", "state", "began", "took", "command"]
    assert first.startswith("fegan-bc1234-resume-1  succeeded (0)  2001-09-")
    assert first.rstrip().endswith("…")
    assert "1 min 0 s  rayfed run jobs" in first
    assert second.split()[:3] == ["a", "failed", "(2)"]


def test_a_failed_job_has_one_line_of_its_message() -> None:
    text = job_text(job(state="failed", exit_code=2, message="ended with exit code 2, the log:\nTraceback\n  at x"))
    assert text.splitlines()[-1].split(maxsplit=1) == ["message", "ended with exit code 2, the log:"]
