"""LARS without host reads and with few kernel calls."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch.optim import Optimizer

from mmselfsup_graft.registry import OPTIMIZERS


@OPTIMIZERS.register_module(force=True)
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888) in MoCo v3's form.

    For tensors with more than one dimension ``g <- (g + wd w) * trust * |w| / |g + wd w|`` (factor 1 if a norm is 0);
    then ``mu <- momentum mu + g`` and ``w <- w - lr mu`` for all. Differs from mmpretrain's LARS, which reads two norms
    per tensor back to the host: here everything stays on the device, and every call serves a whole parameter group.

    SwAV's form, apex's LARC around SGD, is ``adapt_1d=True, separate_norms=True, eps=1e-8``: the factor is
    ``trust * |w| / (|g| + wd |w| + eps)`` for every tensor, and a tensor whose weight or gradient is all zero is
    neither scaled nor decayed.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        weight_decay: Decay, for tensors with more than one dimension.
        momentum: Momentum of the update.
        trust_coefficient: Scale of the adaptive rate.
        adapt_1d: Scale and decay tensors with one dimension, too.
        separate_norms: Divide by ``|g| + wd |w|`` instead of ``|g + wd w|``, and leave the decay out where a norm is 0.
        eps: Added to the divisor.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.0,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
        adapt_1d: bool = False,
        separate_norms: bool = False,
        eps: float = 0.0,
    ) -> None:
        defaults = {
            'lr': lr,
            'weight_decay': weight_decay,
            'momentum': momentum,
            'trust_coefficient': trust_coefficient,
            'adapt_1d': adapt_1d,
            'separate_norms': separate_norms,
            'eps': eps,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state; those of earlier versions have fewer options."""
        super().__setstate__(state)
        for group in self.param_groups:
            for key in ('adapt_1d', 'separate_norms', 'eps'):
                group.setdefault(key, self.defaults[key])

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """One update; returns the closure's loss if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group['params'] if p.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[torch.Tensor], group: dict) -> None:
        """Update all parameters of a group with a few calls, each for the whole list."""
        scaled = [p for p in parameters if p.ndim > 1 or group['adapt_1d']]
        adapted = dict(zip(scaled, _adapted(scaled, group))) if scaled else {}
        updates: list[torch.Tensor] = [adapted.get(p, cast(torch.Tensor, p.grad)) for p in parameters]
        for parameter in parameters:
            if 'mu' not in self.state[parameter]:
                self.state[parameter]['mu'] = torch.zeros_like(parameter)
        averages = [self.state[p]['mu'] for p in parameters]
        torch._foreach_mul_(averages, group['momentum'])
        torch._foreach_add_(averages, updates)
        torch._foreach_sub_(parameters, averages, alpha=group['lr'])


def _adapted(parameters: list[torch.Tensor], group: dict) -> list[torch.Tensor]:
    """Decayed gradients, each scaled by its adaptive rate."""
    gradients = [cast(torch.Tensor, p.grad) for p in parameters]
    decay, separate, eps = group['weight_decay'], group['separate_norms'], group['eps']
    updates = gradients if separate else list(torch._foreach_add(gradients, parameters, alpha=decay))
    # norms of each type and device together: [number of tensors]
    sizes, norms = torch._foreach_norm(parameters), torch._foreach_norm(updates)
    rates, decays = list(sizes), list(sizes)
    for indices in _alike(sizes):
        size, norm = (torch.stack([each[index] for index in indices]) for each in (sizes, norms))
        moving = (size > 0) & (norm > 0)
        divisor = norm + decay * size if separate else norm
        divisor = divisor + eps if eps else divisor
        rate = torch.where(moving, group['trust_coefficient'] * size / divisor, torch.ones_like(size))
        _put(rates, indices, rate)
        if separate:
            _put(decays, indices, decay * moving.to(size.dtype))
    if separate:
        updates = list(torch._foreach_mul(parameters, decays))
        torch._foreach_add_(updates, gradients)
    torch._foreach_mul_(updates, rates)
    return updates


def _put(values: list[torch.Tensor], indices: list[int], found: torch.Tensor) -> None:
    """Put numbers [indices] into their places, as scalars."""
    for index, value in zip(indices, found.unbind()):
        values[index] = value


def _alike(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of the tensors of one type and device, for each type and device."""
    together: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        together.setdefault((tensor.dtype, tensor.device), []).append(index)
    return list(together.values())
