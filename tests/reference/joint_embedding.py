"""SimCLR (Chen et al., arXiv 2002.05709) and VICReg (Bardes et al., arXiv 2105.04906), pair by pair."""

from collections.abc import Sequence
from typing import Any

import torch

from . import vit


def nt_xent(first: torch.Tensor, second: torch.Tensor, tau: float) -> torch.Tensor:
    """Equation 1 of SimCLR for every one of the 2 B samples, and their mean."""
    z = torch.cat([first, second])
    z = z / z.norm(dim=1, keepdim=True)
    count, terms = len(first), []
    for i in range(2 * count):
        others = torch.stack([z[i] @ z[k] / tau for k in range(2 * count) if k != i])
        terms.append(others.logsumexp(0) - z[i] @ z[(i + count) % (2 * count)] / tau)
    return torch.stack(terms).mean()


def vicreg(first: torch.Tensor, second: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Invariance, variance and covariance, weighted."""
    invariance = (first - second).square().mean()
    variance, covariance = 0.0, 0.0
    for z in (first, second):
        variance = variance + (1 - (z.var(0) + 1e-4).sqrt()).clamp(min=0).mean() / 2
        matrix = torch.cov(z.T)
        covariance = covariance + (matrix - matrix.diag().diag()).square().sum() / z.shape[1]
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


def losses(model: Any, views: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The loss of the two projections."""
    first, second = (model.neck((vit.feature(model.backbone, view),))[0] for view in views)
    if hasattr(model.head, 'temperature'):
        return {'loss': nt_xent(first, second, model.head.temperature)}
    return {'loss': vicreg(first, second, model.head.weights)}
