"""Indicators of collapse: how much the features of different images differ."""

import torch
import torch.nn.functional as F


def feature_std(features: torch.Tensor) -> float:
    """Mean standard deviation per dimension of L2-normalized features, times sqrt(D).

    About 1 for features spread evenly over the sphere, 0 when all are the same (Chen and He, SimSiam,
    arXiv 2011.10566, figure 2).

    Args:
        features: [N, D], N > 1.
    """
    spread = F.normalize(features.float(), dim=1).std(dim=0).mean()
    return float(spread * features.shape[1] ** 0.5)


def effective_rank(features: torch.Tensor) -> float:
    """Exponential of the entropy of the normalized singular values (Roy and Vetterli, EUSIPCO 2007).

    Between 1 (all features on one line) and min(N, D). Centered first, so that a common offset does not count. NaN if a
    feature is not finite.

    Args:
        features: [N, D].
    """
    if not features.isfinite().all():
        return float('nan')  # the decomposition would raise
    centered = features.float() - features.float().mean(dim=0)
    values = torch.linalg.svdvals(centered)
    total = values.sum()
    if total == 0:
        return 1.0
    shares = values / total
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))


def mean_cosine(features: torch.Tensor) -> float:
    """Mean cosine similarity of all pairs of different rows: 1 when all point the same way.

    Args:
        features: [N, D], N > 1.
    """
    normed = F.normalize(features.float(), dim=1)
    count = len(normed)
    # the sum over all pairs is the squared norm of the sum; pairs of a row with itself are subtracted
    own = normed.pow(2).sum()
    return float((normed.sum(dim=0).pow(2).sum() - own) / (count * (count - 1)))
