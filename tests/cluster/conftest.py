"""One small private Ray for all tests of this folder; more CPUs than the machine has, for tests sleep a lot."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        object_store_memory=300 * 2**20,
        logging_level="error",
        _node_ip_address="127.0.0.1",
        _temp_dir=str(tmp_path_factory.mktemp("ray", numbered=True)),
        _system_config={"metrics_report_interval_ms": 1000},
    )
    yield
    ray.shutdown()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For a Ray of the test's own: a socket's path may have 107 bytes, and pytest's are long."""
    with tempfile.TemporaryDirectory(prefix="rf-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
