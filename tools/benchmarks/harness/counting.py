"""What a step asks of the machine, counted by torch's dispatcher: FLOPs, kernel calls, host reads, memory."""

import resource
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

FORWARD, BACKWARD, OPTIMIZER = 'forward', 'backward', 'optimizer'

# each gives the host a number or a shape that depends on values: on a GPU it waits for all work queued before
_READS = {'_local_scalar_dense', 'equal', 'nonzero', 'masked_select', '_unique2', 'unique_dim', 'unique_consecutive'}
_MASKED = {'index', 'index_put', 'index_put_'}  # with a Boolean mask they ask for its non-zero places


class Dispatches(TorchDispatchMode):
    """Counts ATen calls that are no views, and host reads, by phase of the step.

    ``forward`` is everything outside the backward pass and the optimiser's step: moving averages and hooks too. The
    step counters of an optimiser, which lie on the CPU whatever the device, are no host reads.

    Attributes:
        calls: Calls by phase.
        reads: Host reads by phase.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.reads: Counter[str] = Counter()
        self.phase = FORWARD
        self._counters: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == 'aten' and not func.is_view:
            self.calls[self.phase] += 1
            self.reads[self.phase] += self._is_read(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))

    def _is_read(self, name: str, args: Any) -> bool:
        if name in _MASKED:
            return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        return name in _READS and args[0].data_ptr() not in self._counters

    def _enter_step(self, optimizer: Optimizer, *_: Any) -> None:
        self.phase = OPTIMIZER
        steps = (state.get('step') for state in optimizer.state.values())
        self._counters = {step.data_ptr() for step in steps if isinstance(step, torch.Tensor) and not step.is_cuda}

    def _leave_step(self, *_: Any) -> None:
        self.phase = FORWARD
        self._counters = set()

    @contextmanager
    def by_phase(self) -> Iterator['Dispatches']:
        """Count, and follow the phases: torch's own backward pass and every optimiser's step."""
        backward = torch.autograd.backward

        def in_phase(*args: Any, **kwargs: Any) -> None:
            self.phase = BACKWARD
            backward(*args, **kwargs)
            self.phase = FORWARD

        hooks = [
            register_optimizer_step_pre_hook(self._enter_step),
            register_optimizer_step_post_hook(self._leave_step),
        ]
        try:
            with patch('torch.autograd.backward', in_phase), self:
                yield self
        finally:
            for hook in hooks:
                hook.remove()


def count_step(step: Callable[[], Any], images: int = 1, repeats: int = 2) -> dict[str, Any]:
    """Count one step.

    Args:
        step: A whole training step; must not run compiled code, which the dispatcher does not see.
        images: Images per step.
        repeats: Steps to count host reads in; the smallest count is of a step that logs nothing.

    Returns:
        ``flops_per_image`` (forward and backward; a multiply-add is 2; attention counted as its matrix products),
        ``calls`` by phase and ``host_reads``, all of them per step.
    """
    counted = []
    for _ in range(repeats):
        with Dispatches().by_phase() as dispatches:
            step()
        counted.append(dispatches)
    quiet = min(counted, key=lambda each: each.reads.total())
    # fused kernels have no formula on a CPU, and count recomputed products on a GPU
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        step()
    return {
        'flops_per_image': flops.get_total_flops() / images,
        'calls': {phase: quiet.calls[phase] for phase in (FORWARD, BACKWARD, OPTIMIZER)},
        'host_reads': quiet.reads.total(),
    }


def cuda_syncs(step: Callable[[], Any], repeats: int = 2) -> int:
    """Operations of one step that torch says wait for the GPU, compiled code included; the least of some steps."""
    counts = []
    torch.cuda.set_sync_debug_mode('warn')
    try:
        for _ in range(repeats):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                step()
            counts.append(sum('called a synchronizing' in str(each.message) for each in caught))
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return min(counts)


def compile_facts() -> dict[str, int]:
    """Graphs that ``torch.compile`` made in this process, and the breaks between them."""
    from torch._dynamo.utils import counters

    return {'graphs': counters['stats']['unique_graphs'], 'graph_breaks': sum(counters['graph_break'].values())}


def peak_memory(device: str) -> dict[str, float]:
    """Peak memory so far in MB: of the GPU's allocator since the warm-up, else resident memory of the process."""
    if device == 'cuda':
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {'peak_allocated_mb': allocated / 2**20, 'peak_reserved_mb': reserved / 2**20}
    unit = 2**10 if sys.platform == 'darwin' else 1  # kilobytes on Linux
    return {'peak_rss_mb': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit / 1024}
