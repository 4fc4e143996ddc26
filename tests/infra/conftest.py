"""One AWS for all: moto keeps one state in a process."""

from collections.abc import Iterator

import pytest

from tests.infra.aws import account, deploy


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, str]]:
    """The environment of a process that is to see the account, in which cluster/aws.yaml is deployed."""
    with account() as environment:
        deploy(environment)
        yield environment
