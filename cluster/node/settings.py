"""Writes what a node's processes are told: Ray's token, and the environment of `ray start` and of MLflow's server.

    settings.py aws REGION HEAD    # HEAD: the head node's address, as this node reaches it
    settings.py gcp PROJECT HEAD

The secrets come from the secret `rayfed` of the cloud's secret store, a JSON object; the node's own role may read it.
"""

import base64
import json
import os
import shlex
import sys
from pathlib import Path


def aws(region: str) -> tuple[str, dict[str, str]]:
    """The bucket's URL, and the secrets by name."""
    import boto3

    account = boto3.client("sts", region).get_caller_identity()["Account"]
    secret = boto3.client("secretsmanager", region).get_secret_value(SecretId="rayfed")["SecretString"]
    return f"s3://rayfed-{account}-{region}", json.loads(secret)


def gcp(project: str) -> tuple[str, dict[str, str]]:
    """The bucket's URL, and the secrets by name."""
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(["https://www.googleapis.com/auth/cloud-platform"])
    name = f"projects/{project}/secrets/rayfed/versions/latest"
    answer = AuthorizedSession(credentials).get(f"https://secretmanager.googleapis.com/v1/{name}:access")
    answer.raise_for_status()
    return f"gs://rayfed-{project}", json.loads(base64.b64decode(answer.json()["payload"]["data"]))


def environment(cloud: str, place: str, head: str, bucket: str, secrets: dict[str, str]) -> dict[str, str]:
    """What `ray start` is told, and hands to every job and actor of the node."""
    home = Path.home()
    return {
        "PATH": f"{home}/venv/bin:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAYFED_RUNS_DIR": f"{home}/rayfed-runs",
        "RAYFED_STORE_URL": f"postgresql+psycopg://rayfed@{head}/rayfed",
        "RAYFED_STORE_STATES": f"{bucket}/states",
        "PGPASSWORD": secrets["postgres_password"],  # libpq reads it: no URL holds a password
        "MLFLOW_TRACKING_URI": f"http://{head}:5000",
        "MLFLOW_TRACKING_USERNAME": "rayfed",
        "MLFLOW_TRACKING_PASSWORD": secrets["mlflow_password"],
        **({"AWS_DEFAULT_REGION": place} if cloud == "aws" else {"GOOGLE_CLOUD_PROJECT": place}),
    }


def server_environment(bucket: str, secrets: dict[str, str]) -> dict[str, str]:
    """What MLflow's server on the head is told beside that."""
    return {
        "MLFLOW_ARTIFACTS": f"{bucket}/mlflow",
        "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["mlflow_password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["flask_secret_key"],
    }


def write(path: Path, text: str) -> None:
    """A file that its owner alone reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def main(cloud: str, place: str, head: str) -> None:
    """Write the files into the home folder."""
    bucket, secrets = {"aws": aws, "gcp": gcp}[cloud](place)
    write(Path.home() / ".ray/auth_token", secrets["auth_token"])
    for name, values in (
        ("node.env", environment(cloud, place, head, bucket, secrets)),
        ("server.env", server_environment(bucket, secrets)),
    ):
        lines = [f"{key}={shlex.quote(value)}\n" for key, value in values.items()]
        write(Path.home() / ".rayfed" / name, "".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
