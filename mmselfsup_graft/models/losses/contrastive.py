"""Contrastive losses. All work in float32 at least, also under autocast."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.distributed.nn.functional import all_gather as all_gather_with_grad

from .pixels import at_least_float32


def info_nce(queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    """One direction of MoCo v3's loss (Chen et al., arXiv 2104.02057, algorithm 1), ``2 tau CE(q K^T / tau)``.

    Over ranks: the local mean, with the keys of all ranks as negatives; averaging the ranks' values (as DDP averages
    gradients) equals one process on the joined batch.

    Args:
        queries: [B, D] predictions, not normalized; gradients flow through these only.
        keys: [B, D] momentum features, not normalized.
        temperature: tau, > 0.

    Returns:
        Scalar.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries = F.normalize(at_least_float32(queries), dim=1)
        keys = F.normalize(at_least_float32(keys.detach()), dim=1)
        keys = torch.cat(all_gather(keys))  # [B * world, D]
        logits = queries @ keys.t() / temperature  # [B, B * world]
        labels = torch.arange(len(queries), device=queries.device) + len(queries) * get_rank()
        return 2 * temperature * F.cross_entropy(logits, labels)


def unit_rows(features: torch.Tensor) -> torch.Tensor:
    """Features [B, D] divided by their length, or by 1e-12 if that is larger."""
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(at_least_float32(features), dim=1)


def info_nce_queue(
    queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """MoCo's loss (He et al., arXiv 1911.05722, equation 1): cross entropy of ``[q k, q Q] / t``, the first is right.

    Over ranks: the local mean; with one queue on all ranks, the mean of the ranks equals one process on the joined
    batch.

    Args:
        queries: [B, D] of length 1; gradients flow through these only.
        keys: [B, D] of length 1.
        queue: [D, K] columns of length 1, none of this batch. It may change before the backward pass.
        temperature: t, > 0.

    Returns:
        The loss, a scalar, and the per cent of queries whose key is nearer than all others, a scalar.
    """
    with torch.autocast(queries.device.type, enabled=False):
        loss, right = _QueueCrossEntropy.apply(queries, keys.detach(), queue.detach(), temperature)
        return loss, 100.0 * right


class _QueueCrossEntropy(Function):
    """Loss of :func:`info_nce_queue` and the share of right answers.

    The gradient is computed with the loss, so nothing of the size of the queue is copied or kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scaled = queries / temperature
        own = (scaled * keys).sum(1, keepdim=True)  # [B, 1]
        others = scaled @ queue  # [B, K]
        nearest = others.amax(1, keepdim=True)
        largest = torch.maximum(own, nearest)
        weights, of_own = others.sub_(largest).exp_(), (own - largest).exp()
        total = weights.sum(1, keepdim=True) + of_own
        loss, right = (largest + total.log() - own).mean(), (own >= nearest).to(own.dtype).mean()
        if ctx.needs_input_grad[0]:
            gradient = (weights @ queue.t() + of_own * keys) / total - keys  # [B, D]
            ctx.save_for_backward(gradient / (temperature * len(queries)))
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: torch.Tensor, of_right: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return of_loss * gradient, None, None, None


def _gather_with_grad(x: torch.Tensor) -> torch.Tensor:
    return torch.cat(all_gather_with_grad(x)) if get_world_size() > 1 else x


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR's loss (Chen et al., arXiv 2002.05709, equation 1), mean over the 2 B samples of this rank.

    Over ranks: negatives are gathered with gradient; each rank averages over its own samples.

    Args:
        first: [B, D] features of view 1, not normalized.
        second: [B, D] features of view 2.
        temperature: tau, > 0.
    """
    with torch.autocast(first.device.type, enabled=False):
        views = [F.normalize(at_least_float32(v), dim=1) for v in (first, second)]
        local = torch.cat(views)  # [2B, D]
        everyone = torch.cat([_gather_with_grad(v) for v in views])  # [2 B world, D], all first views, then all second
        batch, total, offset = len(first), len(everyone) // 2, len(first) * get_rank()
        logits = local @ everyone.t() / temperature  # [2B, 2 B world]
        index = torch.arange(batch, device=first.device) + offset
        own = torch.cat([index, index + total])
        logits = logits.scatter(1, own[:, None], float('-inf'))
        return F.cross_entropy(logits, torch.cat([index + total, index]))


def vicreg(
    first: torch.Tensor, second: torch.Tensor, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)
) -> torch.Tensor:
    """VICReg (Bardes et al., arXiv 2105.04906): invariance, variance and covariance terms.

    Over ranks: invariance is local; variance and covariance are of the features gathered with gradient.

    Args:
        first: [B, D] projections of view 1.
        second: [B, D] projections of view 2.
        weights: Of invariance, variance and covariance.
    """
    with torch.autocast(first.device.type, enabled=False):
        first, second = at_least_float32(first), at_least_float32(second)
        invariance = F.mse_loss(first, second)
        gathered = [_gather_with_grad(v) for v in (first, second)]
        variance = sum(F.relu(1 - (v.var(dim=0) + 1e-4).sqrt()).mean() for v in gathered) / 2
        covariance = sum(_off_diagonal_energy(v) for v in gathered)
        return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


def _off_diagonal_energy(x: torch.Tensor) -> torch.Tensor:
    centered = x - x.mean(dim=0)
    covariance = centered.t() @ centered / (len(x) - 1)  # [D, D]
    squares = covariance.pow(2)
    return (squares.sum() - squares.diagonal().sum()) / x.shape[1]
