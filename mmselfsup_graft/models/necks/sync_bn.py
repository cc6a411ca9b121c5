"""Batch norm that synchronizes over processes on the GPU and on the CPU."""

import torch
from mmengine.dist import get_world_size
from torch import nn
from torch.distributed.nn.functional import all_gather

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.batch_norm import ViewNorm
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class PortableSyncBN(ViewNorm):
    """Batch norm over the joined batch of all processes, for [B, C] or [B, C, H, W].

    With one process it is ordinary batch norm. With several, every process sends mean, variance and count of its
    share in one differentiable all-gather, with NCCL as with gloo; torch's own SyncBatchNorm refuses CPU tensors.
    Parameters and buffers are named as in ``nn.BatchNorm1d``.

    Raises:
        ConfigError: When training with a joined batch of one value per channel, whose variance is undefined.
    """

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.dim() < 2:
            raise ConfigError(f'batch norm expects [B, C, ...], got a tensor of shape {tuple(x.shape)}')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x`` [B, C, ...] over everything but C; joined statistics are taken in float32 at least."""
        world = get_world_size()
        if self.training and x.numel() // (x.shape[1] * self.views) * world < 2:
            raise ConfigError(
                'batch norm needs more than one sample in training, got a batch of 1 on 1 process; '
                'raise train_dataloader.batch_size'
            )
        if self.views > 1 or not self.training or world == 1:
            return super().forward(x)
        normalized, mean, var = self._batch_norm(x)
        self._track(mean, var)
        return normalized

    def _batch_norm(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``x`` normalized over the joined batch, and its mean and unbiased variance; one collective for all views."""
        if get_world_size() == 1 or not self.training:  # in eval mode processes stand alone
            return super()._batch_norm(x)
        work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean, var, count = self._joined_statistics(work, [d for d in range(x.dim()) if d != 1])
        shape = [1, -1, *[1] * (x.dim() - 2)]
        out = (work - mean.view(shape)) * (var + self.eps).rsqrt().view(shape)
        weight, bias = self._affine_of_views()
        if weight is not None and bias is not None:
            out = out * weight.view(shape) + bias.view(shape)
        return out.to(x.dtype), mean.detach(), (var * count / (count - 1)).detach()

    @staticmethod
    def _joined_statistics(x: torch.Tensor, axes: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean [C], biased variance [C] and count [1] of the joined batch, combined from each process's share."""
        channels = x.shape[1]
        var, mean = torch.var_mean(x, axes, correction=0)
        count = x.new_full((1,), x.numel() / channels)
        shares = torch.stack(all_gather(torch.cat([mean, var, count])))  # [world, 2 C + 1]
        means, variances, counts = shares.split([channels, channels, 1], dim=1)
        weights = counts / counts.sum()
        joined = (weights * means).sum(0)
        spread = (weights * (variances + (means - joined).pow(2))).sum(0)
        return joined, spread, counts.sum(0)


def make_sync_bn_portable(model: nn.Module) -> int:
    """Put :class:`PortableSyncBN` in the place of every ``nn.SyncBatchNorm``, with its tensors; returns how many."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.SyncBatchNorm)
    ]
    for parent, name, child in found:
        norm = PortableSyncBN(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
        norm.weight, norm.bias = child.weight, child.bias
        norm.running_mean, norm.running_var = child.running_mean, child.running_var
        norm.num_batches_tracked = child.num_batches_tracked
        norm.train(child.training)
        parent.add_module(name, norm)
    return len(found)
