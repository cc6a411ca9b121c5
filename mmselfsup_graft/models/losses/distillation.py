"""Losses for learning from a base model (TEC, arXiv 2210.11016)."""

import torch

from .pixels import at_least_float32


def hidden_feature_loss(
    prediction: torch.Tensor, target: torch.Tensor, hidden: torch.Tensor, pool: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared difference to the normalized target on hidden patches, in float32 at least.

    The target of every image and channel is normalized over all patches, hidden and visible, with the unbiased
    variance: ``(T - mean) / sqrt(var + 1e-6)``; the prediction is not normalized. Where ``pool`` averages the target to
    another grid, that is done before, and "patch" means a position of that grid.

    Over ranks: the local mean; with equally many hidden patches on every rank, averaging the ranks' values equals one
    process on the joined batch.

    Args:
        prediction: [B, M, C] of the hidden patches.
        target: [B, L, C], raw features of the base model.
        hidden: [B, M] indices of these patches.
        pool: [positions, L] weights of :func:`area_weights`; None compares patches.

    Returns:
        Scalar.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        prediction, target = at_least_float32(prediction), at_least_float32(target)
        if pool is not None:
            target = pool.to(target.dtype) @ target  # [B, positions, C]
        variance, mean = torch.var_mean(target, dim=1, keepdim=True)
        wanted = target.gather(1, hidden[..., None].expand_as(prediction))
        return (prediction - (wanted - mean) / (variance + 1e-6).sqrt()).square().mean()


def attention_row_loss(
    logits: torch.Tensor, target: torch.Tensor, tau: float, pool: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy between rows of attention maps, in float32 at least.

    ``- sum_j softmax_j(target / tau) log softmax_j(logits)`` over the patches j, mean over images, rows and heads.
    With ``pool`` a position of another grid gets the attention to the area that it covers (each patch spreads its share
    evenly over its own area), which again sums to 1: ``L / positions * pool @ softmax(target / tau)``.

    Over ranks: the local mean; equal batches give the value of one process on the joined batch.

    Args:
        logits: [..., L] of the new model, with ``pool`` [..., positions].
        target: [..., L] of the base model, before softmax.
        tau: Temperature of the target alone.
        pool: [positions, L] weights of :func:`area_weights`; None compares patches.

    Returns:
        Scalar; not 0 when both agree, but the entropy of the target.
    """
    with torch.autocast(logits.device.type, enabled=False):
        wanted = (at_least_float32(target) / tau).softmax(-1)
        if pool is not None:
            wanted = wanted @ pool.mT.to(wanted.dtype) * (pool.shape[1] / pool.shape[0])
        return -(wanted * at_least_float32(logits).log_softmax(-1)).sum(-1).mean()
