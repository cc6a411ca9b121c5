"""MoCo v3 (Chen et al., arXiv 2104.02057), algorithm 1, one view after the other."""

from collections.abc import Sequence
from typing import Any

import torch

from . import vit


@torch.no_grad()
def average(model: Any) -> None:
    """``theta' = m theta' + (1 - m) theta``."""
    encoder = model.momentum_encoder
    for old, new in ((encoder.backbone, model.backbone), (encoder.neck, model.neck)):
        for value, now in zip(old.parameters(), new.parameters(), strict=True):
            value.copy_(model.momentum * value + (1 - model.momentum) * now)


def ctr(queries: torch.Tensor, keys: torch.Tensor, tau: float) -> torch.Tensor:
    """``2 tau CE(q K^T / tau)``, the key of the same image being the right one."""
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = (x if x.dtype == torch.float64 else x.float() for x in (queries, keys))
        q, k = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-12) for x in (queries, keys))
        similar = q @ k.T / tau  # [B, B]
        return 2 * tau * (similar.logsumexp(1) - similar.diagonal()).mean()


def losses(
    model: Any, views: Sequence[torch.Tensor], noise: Sequence[torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """``ctr(q1, k2) + ctr(q2, k1)``."""
    keeps: list[torch.Tensor | None] = [None, None]
    if model.view_mask_ratio is not None:
        count = model.backbone.num_patches
        noise = noise or [torch.rand(len(view), count, device=view.device) for view in views]
        keeps = [vit.shuffle(each, model.view_mask_ratio)[0] for each in noise]
    queries = []
    for view, keep in zip(views, keeps):
        z = model.neck((vit.feature(model.backbone, view, keep),))
        queries.append(model.head.predictor(z)[0])
    if model.training and model.update_due:
        average(model)
    encoder = model.momentum_encoder
    with torch.no_grad():
        keys = [encoder.neck((vit.feature(encoder.backbone, *each),))[0] for each in zip(views, keeps)]
    tau = model.head.temperature
    return {'loss': ctr(queries[0], keys[1], tau) + ctr(queries[1], keys[0], tau)}
