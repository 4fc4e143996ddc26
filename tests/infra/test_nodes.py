"""What a node is told, from a secret store that answers as AWS's does."""

import json
import subprocess
import sys
from pathlib import Path

from tests.infra.aws import REGION, ROOT, SECRETS, client


def settle(home: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "cluster/node/settings.py", *arguments]
    return subprocess.run(command, env=environment | {"HOME": str(home)}, capture_output=True, text=True)


def test_the_stack_makes_the_bucket_and_the_profiles_that_the_cluster_file_names(environment: dict[str, str]) -> None:
    buckets = client(environment, "s3").list_buckets()["Buckets"]
    assert [bucket["Name"] for bucket in buckets] == [f"rayfed-123456789012-{REGION}"]
    profiles = client(environment, "iam").list_instance_profiles()["InstanceProfiles"]
    roles = {profile["InstanceProfileName"]: profile["Roles"][0]["RoleName"] for profile in profiles}
    assert roles == {"rayfed-head": "rayfed-head", "rayfed-worker": "rayfed-worker"}


def test_workers_may_not_make_nodes(environment: dict[str, str]) -> None:
    iam = client(environment, "iam")
    assert iam.list_role_policies(RoleName="rayfed-worker")["PolicyNames"] == []
    [own] = iam.list_policies(Scope="Local")["Policies"]
    policy = iam.get_policy_version(PolicyArn=own["Arn"], VersionId="v1")["PolicyVersion"]["Document"]
    actions = json.dumps([statement["Action"] for statement in policy["Statement"]])
    assert "s3:GetObject" in actions
    assert "ec2:" not in actions
    assert "iam:" not in actions


def test_a_node_is_told_where_everything_is_and_its_owner_alone_reads_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = settle(tmp_path, environment, "aws", REGION, "10.0.0.5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    token, *_ = files = [tmp_path / name for name in (".ray/auth_token", ".rayfed/node.env", ".rayfed/server.env")]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    assert token.read_text() == SECRETS["auth_token"]
    shell = "set -a; . ~/.rayfed/node.env; . ~/.rayfed/server.env; env -0"
    printed = subprocess.run(
        ["bash", "-c", shell], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    seen = dict(line.split("=", 1) for line in printed.stdout.split("\0") if line)
    bucket = f"s3://rayfed-123456789012-{REGION}"
    expected = {
        "RAY_AUTH_MODE": "token",
        "RAYFED_RUNS_DIR": f"{tmp_path}/rayfed-runs",
        "RAYFED_STORE_URL": "postgresql+psycopg://rayfed@10.0.0.5/rayfed",
        "RAYFED_STORE_STATES": f"{bucket}/states",
        "PGPASSWORD": SECRETS["postgres_password"],
        "MLFLOW_TRACKING_URI": "http://10.0.0.5:5000",
        "MLFLOW_TRACKING_USERNAME": "rayfed",
        "MLFLOW_TRACKING_PASSWORD": SECRETS["mlflow_password"],
        "MLFLOW_ARTIFACTS": f"{bucket}/mlflow",
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRETS["mlflow_password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRETS["flask_secret_key"],
        "AWS_DEFAULT_REGION": REGION,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["PATH"].split(":")[0] == f"{tmp_path}/venv/bin"


def test_a_secret_that_is_new_takes_the_place_of_the_old(environment: dict[str, str], tmp_path: Path) -> None:
    store = client(environment, "secretsmanager")
    settle(tmp_path, environment, "aws", REGION, "localhost")
    store.put_secret_value(SecretId="rayfed", SecretString=json.dumps(SECRETS | {"auth_token": "short"}))
    settle(tmp_path, environment, "aws", REGION, "localhost")
    store.put_secret_value(SecretId="rayfed", SecretString=json.dumps(SECRETS))
    assert (tmp_path / ".ray/auth_token").read_text() == "short"
