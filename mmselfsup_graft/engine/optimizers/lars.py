"""LARS without host reads."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from mmselfsup_graft.registry import OPTIMIZERS


@OPTIMIZERS.register_module(force=True)
class LARS(Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888) in MoCo v3's form.

    For tensors with more than one dimension ``g <- (g + wd w) * trust * |w| / |g + wd w|`` (factor 1 if a norm is 0);
    then ``mu <- momentum mu + g`` and ``w <- w - lr mu`` for all. Differs from mmpretrain's LARS, which reads two norms
    per tensor back to the host: here everything stays on the device.

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
            for parameter in group['params']:
                self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict) -> None:
        update = parameter.grad
        if update is None:
            return
        if parameter.ndim > 1:
            update = update.add(parameter, alpha=group['weight_decay'])
            size, norm = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(update)
            adaptive = group['trust_coefficient'] * size / norm
            update = update * torch.where((size > 0) & (norm > 0), adaptive, torch.ones_like(size))
        state = self.state[parameter]
        if 'mu' not in state:
            state['mu'] = torch.zeros_like(parameter)
        state['mu'].mul_(group['momentum']).add_(update)
        parameter.sub_(state['mu'], alpha=group['lr'])
