"""What a process needs to train fast."""

import ctypes

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of glibc's malloc.h."""
KEPT = 256 << 20
"""Bytes that a process may keep for its next step at the most."""
LARGEST = 32 << 20
"""Bytes of an array that is kept; glibc takes no more."""


def set_up() -> None:
    """Set torch to one thread and, where the C library is glibc, let freed memory stay with this process.

    Every step needs the same memory again. Given back to the system in between, each of its pages costs a fault and is
    filled with zeros anew.
    """
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.pythonapi, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)  # else each thread keeps memory of its own
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def trim() -> None:
    """Give back the memory that is free, which lies between arrays that are not."""
    malloc_trim = getattr(ctypes.pythonapi, "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
