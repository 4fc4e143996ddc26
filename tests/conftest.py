"""What must stand before anything imports ray or torch computes."""

import torch

from rayfed.cluster import prepare_environment
from tests.inception import WEIGHTS  # noqa: F401  takes them out of the environment

prepare_environment(None)
torch.set_num_threads(1)  # as in every actor: sums do not depend on the cores of the machine
