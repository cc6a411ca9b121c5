"""Batch norm with separate statistics for several views in one batch.

The views of an image follow each other: sample 0 of view 0, sample 0 of view 1, sample 1 of view 0, ... A batch
[B V, C, ...] in that order is, without a copy, a batch [B, V C, ...] whose channels are those of all views, and
ordinary batch norm of that is batch norm of each view.

The classes are registered under the names that ``norm_cfg`` uses, so networks of mmpretrain are built with them.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmselfsup_graft.registry import MODELS


class ViewNorm(_BatchNorm):
    """Batch norm with separate batch statistics for every view, see :class:`JointViews`.

    Running statistics are updated view by view, as in separate passes. With one view it equals torch's.
    """

    #: views in a batch; more than one only inside of a joint pass
    views: int = 1

    @property
    def uses_batch_statistics(self) -> bool:
        """True in training, and always without running statistics."""
        return self.training or (self.running_mean is None and self.running_var is None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize ``x`` [B V, C, ...]."""
        if self.views == 1 or not self.uses_batch_statistics:
            return super().forward(x)
        self._check_input_dim(x)
        channels = x.unflatten(0, (-1, self.views)).flatten(1, 2)  # [B, V C, ...]
        normalized, mean, var = self._batch_norm(channels)
        for of_view in zip(mean.chunk(self.views), var.chunk(self.views)):
            self._track(*of_view)
        return normalized.unflatten(1, (self.views, -1)).flatten(0, 1)

    def _batch_norm(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``x`` normalized, and its mean and unbiased variance, all over V C channels."""
        # torch returns the statistics through running averages only: with momentum 1 they are those of this batch
        dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        mean, var = torch.zeros(2, x.shape[1], dtype=dtype, device=x.device)
        weight, bias = self._affine_of_views()
        return F.batch_norm(x, mean, var, weight, bias, True, 1.0, self.eps), mean, var

    def _affine_of_views(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if not self.affine:
            return None, None
        return self.weight.repeat(self.views), self.bias.repeat(self.views)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        """Move running statistics towards those of a batch, the variance unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(var.to(self.running_var.dtype), factor)


@MODELS.register_module(name='BN1d')
class ViewNorm1d(ViewNorm, nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` with separate statistics per view."""


@MODELS.register_module(name=['BN', 'BN2d'])
class ViewNorm2d(ViewNorm, nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` with separate statistics per view."""
