"""What a training process keeps of its memory."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from rayfed.models.process import set_up
set_up()
assert torch.get_num_threads() == 1
faults = []
for _ in range(10):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [torch.ones({megabytes} << 18) for _ in range(3)]
    del arrays
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[5:]))
"""


def faults(megabytes: int) -> int:
    """Page faults of the last five of ten times that three such arrays are made and freed, in a new process."""
    code = FAULTS.format(megabytes=megabytes)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_there_for_the_next_step() -> None:
    """Without, glibc mostly gives back what is free at the heap's end: up to a fault for each page of the arrays."""
    pages = 5 * 3 * 30 * 2**20 // 4096
    assert faults(megabytes=30) < 0.01 * pages
