"""Costs of a step, counted by torch's dispatcher: FLOPs, kernel calls, host reads."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmselfsup_graft.analysis import HostReads

FORWARD, BACKWARD, OPTIMIZER = 'forward', 'backward', 'optimizer'


class StepCounts(HostReads):
    """Calls by phase of the step, and host reads.

    ``forward`` is everything outside the backward pass and the optimizer's step: moving averages and hooks too.

    Attributes:
        by_phase: Calls that are not views, by phase.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_phase: Counter[str] = Counter()
        self._phase = FORWARD
        self._backward = torch.autograd.backward

    def __enter__(self) -> 'StepCounts':
        self._stack.enter_context(patch('torch.autograd.backward', self._in_backward))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._go_to(FORWARD)

    def _go_to(self, phase: str) -> None:
        self.by_phase[self._phase] += self.calls - self.by_phase.total()
        self._phase = phase

    def _in_backward(self, *args: Any, **kwargs: Any) -> None:
        self._go_to(BACKWARD)
        self._backward(*args, **kwargs)
        self._go_to(FORWARD)

    def _enter_step(self, *args: Any) -> None:
        super()._enter_step(*args)
        self._go_to(OPTIMIZER)

    def _leave_step(self, *args: Any) -> None:
        super()._leave_step(*args)
        self._go_to(FORWARD)


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
        with StepCounts() as counts:
            step()
        counted.append(counts)
    quiet = min(counted, key=lambda each: len(each.found))
    # fused kernels have no formula on a CPU, and count recomputed products on a GPU
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
        step()
    return {
        'flops_per_image': flops.get_total_flops() / images,
        'calls': {phase: quiet.by_phase[phase] for phase in (FORWARD, BACKWARD, OPTIMIZER)},
        'host_reads': len(quiet.found),
    }


def cuda_syncs(step: Callable[[], Any], repeats: int = 2) -> int:
    """Operations of one step that wait for the GPU by torch's warnings, in compiled code; minimum of some steps."""
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
