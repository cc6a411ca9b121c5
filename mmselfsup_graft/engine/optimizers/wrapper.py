"""Optimizer wrapper without host reads."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch.distributed.tensor import DTensor

from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module(name='OptimWrapper')
class DeviceOptimWrapper(OptimWrapper):
    """mmengine's optimizer wrapper, whose gradient norm stays on the device until it is logged.

    ``type='OptimWrapper'`` in a config of this scope means this one. Args are those of
    :class:`mmengine.optim.OptimWrapper`.

    Attributes:
        gradient_norm: Norm of the gradients before clipping, for hooks; None if unknown.
        spread_nonfinite: Let a loss that is not finite make all gradients NaN, on
            all processes: the gradients alone then decide whether a step is left out.
    """

    gradient_norm: torch.Tensor | None = None
    spread_nonfinite = False

    def update_params(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Back-propagate and update as mmengine does; see ``spread_nonfinite``."""
        if self.spread_nonfinite:
            value = loss.detach()
            loss = loss * torch.where(torch.isfinite(value), 1.0, torch.nan).to(loss.dtype)
        super().update_params(loss, *args, **kwargs)

    def _clip_grad(self) -> None:
        """Clip as mmengine does; the norm is kept as a tensor, for a sharded model the norm of all parts."""
        parameters = [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        norm = self.clip_func(parameters, **self.clip_grad_kwargs) if parameters else None
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()  # here, because all processes must take part; only one may read the log
        if norm is not None:  # clipping by value has none
            self.gradient_norm = norm.detach()
            self.message_hub.update_scalar(f'train/{self.grad_name}', norm)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the optimizer's state; fused or not is decided by the config of this run.

        Raises:
            CheckpointError: If it was saved with other parameter groups.
        """
        check_group_sizes(state_dict.get('param_groups', ()), self.optimizer.param_groups)
        groups = [
            {**group, **{key: ours[key] for key in ('fused', 'foreach') if key in ours}}
            for group, ours in zip(state_dict.get('param_groups', ()), self.optimizer.param_groups)
        ]
        super().load_state_dict({**state_dict, 'param_groups': groups})


def check_group_sizes(saved: Iterable[Mapping], own: Iterable[Mapping], filename: str = 'the checkpoint') -> None:
    """Compare the parameter groups of a stored optimizer state with those of this run.

    Raises:
        CheckpointError: If their number, or that of the parameters in one of them, differs.
    """
    before, now = [len(group['params']) for group in saved], [len(group['params']) for group in own]
    if before != now:
        raise CheckpointError(
            f'{filename} has {len(before)} parameter groups of {sum(before)} tensors in its optimizer, this run '
            f'has {len(now)} of {sum(now)}: other layer-wise rates, or an older version with one group per layer; '
            'finish that run with its version, or start from its weights with load_from'
        )
