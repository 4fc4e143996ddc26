"""What a training process keeps of its memory."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from rayfed.models.process import set_up
if {tuned}:
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


def faults(tuned: bool, megabytes: int) -> int:
    """Page faults of the last five of ten times that three such arrays are made and freed, in a new process."""
    code = FAULTS.format(tuned=tuned, megabytes=megabytes)
    eager = os.environ | {"MALLOC_TRIM_THRESHOLD_": str(1 << 20)}  # without it, what is kept depends on the heap's luck
    done = subprocess.run([sys.executable, "-c", code], env=eager, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_there_for_the_next_step() -> None:
    """Where glibc is told to give memory back at once, and does: each page of the arrays costs a fault."""
    pages = 5 * 3 * 30 * 2**20 // 4096
    assert faults(tuned=False, megabytes=30) > 0.9 * pages
    assert faults(tuned=True, megabytes=30) < 0.01 * pages
