"""Memory of a process and of one step of it."""

import ctypes
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE = 1 << 16


def peak_memory(device: str) -> dict[str, float]:
    """Peak memory so far in MB: of the GPU's allocator since the warm-up, else resident memory of the process."""
    if device == 'cuda':
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {'peak_allocated_mb': allocated / 2**20, 'peak_reserved_mb': reserved / 2**20}
    unit = 2**10 if sys.platform == 'darwin' else 1  # kilobytes on Linux
    return {'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024}


def peak_of_step(step: Callable[[], Any]) -> dict[str, float]:
    """Peak memory in MB that one step on the CPU has in use, with all that lives in the process.

    The peak of the process's resident memory also holds what the allocator keeps between allocations, which depends on
    their order and differs by hundreds of MB where the very same tensors are alive. So from here on every large block
    is given back to the system as soon as it is freed: for good, and at some cost in time, hence after the clock.

    Returns:
        ``step_mb``; nothing where the allocator is not glibc's or the system does not reset its peak.
    """
    try:
        libc = ctypes.CDLL(None)
        malloc_trim = libc.malloc_trim
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)
    except (AttributeError, OSError):
        return {}
    step()  # what one step leaves to the next, gradients say, still lay among the small blocks
    malloc_trim(0)
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak, see proc(5)
    except OSError:
        return {}
    step()
    peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    return {'step_mb': int(peak.split()[1]) / 1024}
