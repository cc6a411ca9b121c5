"""Memory of a process and of one step of it."""

import ctypes
import resource
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def peak_memory(device: str) -> dict[str, float]:
    """Peak memory so far in MB: of the GPU's allocator since the warm-up, else resident memory of the process."""
    if device == 'cuda':
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {'peak_allocated_mb': allocated / 2**20, 'peak_reserved_mb': reserved / 2**20}
    unit = 2**10 if sys.platform == 'darwin' else 1  # kilobytes on Linux
    return {'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024}


class _MallocInfo(ctypes.Structure):
    """What glibc's ``mallinfo2`` returns."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ('arena', 'ordblks', 'smblks', 'hblks', 'hblkhd')),
        *((name, ctypes.c_size_t) for name in ('usmblks', 'fsmblks', 'uordblks', 'fordblks', 'keepcost')),
    ]


class _PeakInUse(TorchDispatchMode):
    """Highest number of allocated bytes after any call of an operator."""

    def __init__(self, info: Callable[[], _MallocInfo]) -> None:
        super().__init__()
        self._info, self.peak = info, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        now = self._info()
        self.peak = max(self.peak, now.uordblks + now.hblkhd)  # blocks in the heaps and blocks mapped alone
        return result


def peak_in_use(step: Callable[[], Any]) -> dict[str, float]:
    """Peak of the allocated memory in MB during one step on the CPU: weights, optimizer and all that a step needs.

    Resident memory also holds what the allocator keeps between allocations, which depends on their order and differs by
    hundreds of MB for the same live tensors. Memory that an operator frees before it returns is not seen.

    Args:
        step: A whole training step; must not run compiled code, which the dispatcher does not see.

    Returns:
        ``in_use_mb``; nothing where the allocator is not glibc's (2.33 or newer).
    """
    try:
        info = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return {}
    info.restype = _MallocInfo
    with _PeakInUse(info) as seen:
        step()
    return {'in_use_mb': seen.peak / 2**20}
