"""Ray's environment must stand before anything imports ray."""

from collections.abc import Iterator

import pytest
import torch

from rayfed.cluster import prepare_environment

prepare_environment(None)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread, as in every actor: sums do not depend on the cores of the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
