"""Losses for learning from a base model (TEC, arXiv 2210.11016)."""

import torch

from .pixels import at_least_float32


def hidden_feature_loss(prediction: torch.Tensor, target: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Mean squared difference to the normalized target on hidden patches, in float32 at least.

    The target of every image and channel is normalized over all patches, hidden and visible, with the unbiased
    variance: ``(T - mean) / sqrt(var + 1e-6)``; the prediction is not normalized.

    Over ranks: the local mean; with equally many hidden patches on every rank, averaging the ranks' values equals one
    process on the joined batch.

    Args:
        prediction: [B, M, C] of the hidden patches.
        target: [B, L, C], raw features of the base model.
        hidden: [B, M] indices of these patches.

    Returns:
        Scalar.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        prediction, target = at_least_float32(prediction), at_least_float32(target)
        variance, mean = torch.var_mean(target, dim=1, keepdim=True)
        wanted = target.gather(1, hidden[..., None].expand_as(prediction))
        return (prediction - (wanted - mean) / (variance + 1e-6).sqrt()).square().mean()


def attention_row_loss(logits: torch.Tensor, target: torch.Tensor, tau: float) -> torch.Tensor:
    """Cross-entropy between rows of attention maps, in float32 at least.

    ``- sum_j softmax_j(target / tau) log softmax_j(logits)`` over the patches j, mean over images, rows and heads.

    Over ranks: the local mean; equal batches give the value of one process on the joined batch.

    Args:
        logits: [..., L] of the new model.
        target: [..., L] of the base model, before softmax.
        tau: Temperature of the target alone.

    Returns:
        Scalar; not 0 when both agree, but the entropy of the target.
    """
    with torch.autocast(logits.device.type, enabled=False):
        wanted = (at_least_float32(target) / tau).softmax(-1)
        return -(wanted * at_least_float32(logits).log_softmax(-1)).sum(-1).mean()
