"""An AWS of moto on the loopback interface, with what cluster/aws.yaml makes, and the secret of docs/cloud.md."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parents[2]
REGION = "us-west-2"
SECRETS = {
    "auth_token": "a-token-of-ray's $HOME",
    "mlflow_password": "mlflow-pass-of-a-test",  # MLflow wants twelve characters
    "flask_secret_key": "flask-key",
    "postgres_password": "postgres-pass",
}


@contextmanager
def account() -> Iterator[dict[str, str]]:
    """The environment of a process that is to see it; gone with the block."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line per request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        own = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_", "MLFLOW_"))}
        yield kept | own
    finally:
        server.stop()


def client(environment: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,
        REGION,
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def deploy(environment: dict[str, str]) -> None:
    """The stack of cluster/aws.yaml, and the secret."""
    stack = client(environment, "cloudformation").create_stack(
        StackName="rayfed",
        TemplateBody=(ROOT / "cluster/aws.yaml").read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    assert stack["StackId"]
    client(environment, "secretsmanager").create_secret(Name="rayfed", SecretString=json.dumps(SECRETS))
