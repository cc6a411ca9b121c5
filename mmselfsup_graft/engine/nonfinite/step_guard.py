"""Detection of non-finite gradients before each optimizer step, without waiting for the device."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


class HostTransfer:
    """Asynchronous transfer of a few numbers per iteration from the device to the host.

    On a CUDA device each vector is copied into pinned memory after the work queued so far, and is read when an event
    signals its arrival: neither side waits. On a CPU it is available at once; other devices are waited for.

    Args:
        ready: Number of preallocated buffers; more are allocated on demand.
    """

    def __init__(self, ready: int = 4) -> None:
        self._sent: deque[tuple[int, torch.Tensor, Any, Callable[[], bool], Callable[[], None]]] = deque()
        self._free = [_slot() for _ in range(ready)]

    def send(self, key: int, values: torch.Tensor) -> None:
        """Send a float32 vector of two numbers with the name ``key``."""
        on_cuda = values.device.type == 'cuda'
        slot, array = self._free.pop() if self._free else _slot()
        slot.copy_(values, non_blocking=True)
        if on_cuda:
            event = torch.cuda.Event()
            event.record()
            self._sent.append((key, slot, array, event.query, event.synchronize))
        else:
            self._sent.append((key, slot, array, lambda: True, lambda: None))

    def arrived(self, wait: bool = False) -> Iterator[tuple[int, list[float]]]:
        """Return the arrived vectors in the order of sending; with ``wait`` all of them."""
        while self._sent:
            key, slot, array, is_there, wait_for = self._sent[0]
            if wait:
                wait_for()
            elif not is_there():
                return
            self._sent.popleft()
            numbers = array.tolist()
            self._free.append((slot, array))
            yield key, numbers


def _slot() -> tuple[torch.Tensor, Any]:
    """A host buffer for two numbers, as a tensor and as an array."""
    slot = torch.zeros(2, pin_memory=torch.cuda.is_available())
    return slot, slot.numpy()


class StepGuard:
    """Checks the gradients before each step of an optimizer, and leaves out a step that would corrupt the weights.

    torch's fused optimizers (AdamW, Adam, SGD, Adagrad; every config here but those with LARS has one) take a flag on
    the device, ``found_inf``, and then change neither weights nor moments. So the flag costs no host read, and the
    weights stay those before the fault. Other optimizers, sharded models, and the first step of an SGD with momentum
    (whose buffers torch would leave uninitialized) make the step, unless ``skip`` allows one host read per
    step.

    The norm of all gradients is computed once per step, unless it was computed for clipping. A norm that overflows
    float32 counts as not finite: the second moments of Adam would overflow as well. A step that the loss scaler of
    float16 leaves out is not a fault.

    Args:
        wrapper: An optimizer wrapper with an ``optimizer``; the norm of a clipped gradient is its ``gradient_norm``.
        skip: Leave the step out for any optimizer, at the cost of a host read if it is not fused.
    """

    def __init__(self, wrapper: Any, skip: bool = False) -> None:
        self.wrapper, self.skip = wrapper, skip
        self.steps = 0
        self._norm: torch.Tensor | None = None
        self._set_flag = False
        optimizer: Optimizer = wrapper.optimizer
        self._handles: list[Any] = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take_norm(self) -> torch.Tensor | None:
        """Norm of the gradients of the step just made; without one, that of the gradients accumulated so far.

        0 where a loss scaler left the step out, None if there are no gradients.
        """
        norm, self._norm = self._norm, None
        return self._compute() if norm is None else norm

    def _compute(self) -> torch.Tensor | None:
        parameters = (p for group in self.wrapper.optimizer.param_groups for p in group['params'])
        return gradient_norm(p.grad for p in parameters if p.grad is not None)

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        norm = getattr(self.wrapper, 'gradient_norm', None)
        if norm is None:
            norm = self._compute()
        else:
            self.wrapper.gradient_norm = None
        if norm is None:
            return
        scaled = getattr(optimizer, 'found_inf', None)
        bad = (~torch.isfinite(norm)).to(torch.float32)
        if scaled is None and self._takes_flag(optimizer):
            optimizer.found_inf = bad  # type: ignore[attr-defined]
            self._set_flag = True
        elif scaled is None and self.skip and bool(bad):
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.grad = None  # optimizers skip it
        self._norm = norm if scaled is None else torch.where(scaled.reshape(()) > 0, torch.zeros_like(norm), norm)

    def _after_step(self, optimizer: Optimizer, *_: Any) -> None:
        self.steps += 1
        if self._set_flag:
            del optimizer.found_inf  # type: ignore[attr-defined]
            self._set_flag = False

    @staticmethod
    def _takes_flag(optimizer: Optimizer) -> bool:
        if not getattr(optimizer, '_step_supports_amp_scaling', False):
            return False
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        if any(isinstance(p, DTensor) for p in parameters):
            return False  # a process has only its own part of the gradients, and all must decide equally
        with_momentum = isinstance(optimizer, torch.optim.SGD) and any(g['momentum'] for g in optimizer.param_groups)
        return not with_momentum or any(state.get('momentum_buffer') is not None for state in optimizer.state.values())


def gradient_norm(gradients: Iterable[torch.Tensor]) -> torch.Tensor | None:
    """Norm of all gradients together, a float32 scalar on their device; of sharded ones that of this process's part."""
    local = [each.to_local() if isinstance(each, DTensor) else each for each in gradients]
    together: dict[Any, list[torch.Tensor]] = {}
    for each in local:
        if each.numel():
            together.setdefault((each.dtype, each.device), []).append(each.detach())
    norms = [torch.stack(list(torch._foreach_norm(each))).float().norm() for each in together.values()]
    if not norms:
        return None
    return norms[0] if len(norms) == 1 else torch.stack([each.to(norms[0].device) for each in norms]).norm()
