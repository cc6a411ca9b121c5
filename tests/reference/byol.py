"""BYOL (Grill et al., arXiv 2006.07733), equations 1 and 2, one view and one image after the other."""

from collections.abc import Sequence
from typing import Any

import torch

from . import vit


@torch.no_grad()
def average(model: Any) -> None:
    """``xi = tau xi + (1 - tau) theta``."""
    target = model.momentum_encoder
    for old, new in ((target.backbone, model.backbone), (target.neck, model.neck)):
        for xi, theta in zip(old.parameters(), new.parameters(), strict=True):
            xi.copy_(model.momentum * xi + (1 - model.momentum) * theta)


def squared_distance(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``|q / |q| - z / |z||^2``, mean over the images."""
    terms = [(q / q.norm() - z / z.norm()).square().sum() for q, z in zip(prediction, target)]
    return torch.stack(terms).mean()


def losses(model: Any, views: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The distance of view 1's prediction to view 2's target, and the other way round."""
    predictions = [model.head(model.neck((vit.feature(model.backbone, view),)))[0] for view in views]
    if model.training and model.update_due:
        average(model)
    target = model.momentum_encoder
    with torch.no_grad():
        targets = [target.neck((vit.feature(target.backbone, view),))[0] for view in views]
    return {'loss': squared_distance(predictions[0], targets[1]) + squared_distance(predictions[1], targets[0])}
