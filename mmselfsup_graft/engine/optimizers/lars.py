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

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        weight_decay: Decay, for tensors with more than one dimension.
        momentum: Momentum of the update.
        trust_coefficient: Scale of the adaptive rate.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.0,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        trust_coefficient: float = 1e-3,
    ) -> None:
        defaults = {
            'lr': lr,
            'weight_decay': weight_decay,
            'momentum': momentum,
            'trust_coefficient': trust_coefficient,
        }
        super().__init__(params, defaults)

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
        scaled = [p for p in parameters if p.ndim > 1]
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
    updates = list(torch._foreach_add(gradients, parameters, alpha=group['weight_decay']))
    # norms of each type and device together: [number of tensors]
    sizes, norms = torch._foreach_norm(parameters), torch._foreach_norm(updates)
    rates = list(sizes)
    for indices in _alike(sizes):
        size, norm = (torch.stack([each[index] for index in indices]) for each in (sizes, norms))
        rate = torch.where((size > 0) & (norm > 0), group['trust_coefficient'] * size / norm, torch.ones_like(size))
        for index, value in zip(indices, rate.unbind()):
            rates[index] = value
    torch._foreach_mul_(updates, rates)
    return updates


def _alike(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Indices of the tensors of one type and device, for each type and device."""
    together: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        together.setdefault((tensor.dtype, tensor.device), []).append(index)
    return list(together.values())
