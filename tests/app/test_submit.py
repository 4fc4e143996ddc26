"""What is sent to a cluster: the order, the files that it needs, the wheel."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from rayfed.app.submit import order, order_to_resume
from rayfed.app.wheel import write_wheel
from rayfed.errors import UserError

TABLE = "client,device,capacity,time_factor\na,strong,1000000,1\nb,weak,1000000,2\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "one.yaml").write_text("method: {name: fegan}\nseed: 7\n")
    return tmp_path


def ordered(*arguments: str) -> tuple[object, list[str]]:
    notices: list[str] = []
    return order(arguments, notices.append), notices


def test_a_runs_file_is_run_and_its_id_is_the_jobs(here):
    found, notices = ordered("jobs/one.yaml", "rounds=3")
    assert found.job_id.startswith("fegan-")
    assert list(found.command) == ["run", "jobs/one.yaml", "rounds=3", "--id", found.job_id]
    assert (list(found.files), notices) == ([Path("jobs/one.yaml")], [])
    assert found.metadata == {
        "rayfed_run": found.job_id,
        "rayfed_version": version("rayfed-gan"),
        "mlflow_experiment": "rayfed",
        "mlflow_run_name": f"{found.job_id}, seed 7",
    }


def test_a_file_is_named_from_the_working_directory_wherever_the_user_names_it_from(here):
    assert list(ordered(str(here / "jobs" / "one.yaml"))[0].command)[:2] == ["run", "jobs/one.yaml"]


def test_keys_alone_need_no_file(here):
    found, _ = ordered("method.name=md-gan", "rounds=2")
    assert list(found.command) == ["run", "method.name=md-gan", "rounds=2", "--id", found.job_id]
    assert list(found.files) == []


def test_a_comparisons_file_is_compared(here):
    (here / "my runs.yaml").write_text("runs:\n  a: {method: {name: fegan}}\n  b: {method: {name: fedgan}}\nbase: {}\n")
    found, _ = ordered("my runs.yaml", "seeds=[0,1]")
    assert found.job_id.startswith("my-runs-")
    assert list(found.command) == ["compare", "my runs.yaml", "seeds=[0,1]", "--id", found.job_id]


def test_resumed_runs_are_counted(here):
    taken = ["fegan-1", "fegan-1-resume-1", "fegan-2-resume-1"]
    found = order_to_resume("fegan-1", ["rounds=9"], ["--store=sqlite:////x"], taken)
    assert found.job_id == "fegan-1-resume-2"
    assert list(found.command) == ["resume", "fegan-1", "rounds=9", "--store=sqlite:////x"]
    with pytest.raises(UserError, match=r"an override is key=value"):
        order_to_resume("fegan-1", ["rounds"], [], taken)
    assert list(order_to_resume("fegan-1", ["stop="], [], taken).command) == ["resume", "fegan-1", "stop="]


def test_files_that_a_configuration_names_are_sent(here):
    (here / "jobs" / "table.csv").write_text(TABLE)
    (here / "images.npz").touch()
    (here / "parts.csv").touch()
    found, notices = ordered(
        "method.name=fsl-gan",
        "method.table=jobs/table.csv",
        "devices.count=2",
        "data.name=npz:images.npz",
        "data.partition=file:parts.csv",
    )
    assert set(found.files) == {Path("jobs/table.csv"), Path("images.npz"), Path("parts.csv")}
    assert notices == []
    _, notices = ordered("method.name=fegan", "data.name=imagefolder:/mnt/images")
    assert notices == ["data.name: /mnt/images is read on the cluster; it is not sent"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs/none.yaml"], r"^the job's file jobs/none.yaml: no such file in "),
        (["../one.yaml"], r"^the job's file \.\./one.yaml: lies outside .*, and only that folder is sent"),
        (["jobs/one.yaml", "method.fractoin=1"], r"unknown key; did you mean method\.fraction\?"),
        (["jobs/one.yaml", "data.name=npz:none.npz"], r"^data.name = none.npz: no such file in "),
        (["jobs/one.yaml", "data.partition=file:../parts.csv"], r"^data.partition = \.\./parts.csv: lies outside "),
        (
            ["jobs/one.yaml", "runs_dir=runs"],
            r"^runs_dir = 'runs': a job's working directory is thrown away",
        ),
        (["jobs/one.yaml", "store.url=sqlite:///a.db"], r"^store.url = 'sqlite:///a.db': a job's working directory"),
        (["jobs/one.yaml", "store.states=states"], r"^store.states = 'states': a job's working directory"),
        (
            ["jobs/one.yaml", "tracking.uri=sqlite:///m.db"],
            r"^tracking.uri = 'sqlite:///m.db': a job's working",
        ),
    ],
)
def test_what_could_not_work_on_the_cluster_is_refused_here(here, arguments, said):
    (here.parent / "one.yaml").write_text("method: {name: fegan}\n")
    (here.parent / "parts.csv").touch()
    with pytest.raises(UserError, match=said):
        ordered(*arguments)


@pytest.mark.parametrize("place", ["runs_dir=/mnt/runs", "store.url=sqlite:////mnt/a.db", "store.states=s3://b/states"])
def test_a_place_that_lasts_is_taken(here, place):
    assert place in ordered("jobs/one.yaml", place)[0].command


def test_pip_installs_the_wheel_of_this_rayfed(tmp_path):
    wheel = write_wheel(tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, f"--target={tmp_path / 'site'}", wheel], check=True, timeout=120)
    code = "import rayfed, importlib.metadata as m; print(rayfed.__file__, m.version('rayfed-gan'))"
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(tmp_path / "site" / "rayfed" / "__init__.py"), version("rayfed-gan")]
    assert (tmp_path / "site" / "rayfed" / "data" / "assets" / "fashion_mnist_6k.npz").exists()
    about = next((tmp_path / "site").glob("rayfed_gan-*.dist-info/METADATA")).read_text()
    assert "Requires-Dist: torch>=" in about


def test_the_same_rayfed_is_the_same_wheel(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = (write_wheel(tmp_path / name) for name in "ab")
    assert a.relative_to(tmp_path / "a") == b.relative_to(tmp_path / "b")
    assert a.read_bytes() == b.read_bytes()
