"""Projected features of several views of a batch."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def takes_joined_views(backbone: nn.Module) -> bool:
    """Whether an encoder may see all views in one batch: batch norm inside it must see one view at a time."""
    return not any(isinstance(each, _BatchNorm) for each in backbone.modules())


def project_views(
    backbone: nn.Module,
    neck: nn.Module,
    views: Sequence[torch.Tensor],
    keeps: Sequence[torch.Tensor] | None = None,
    joined: bool = False,
) -> list[torch.Tensor]:
    """Projected features [B, D] of each view [B, C, H, W]; the projector's batch norm sees one view at a time.

    Args:
        backbone: Encoder; its last output is the feature.
        neck: Projector from a tuple of one [B, D] feature (or map) to a tuple of one [B, D] projection.
        views: Normalised images.
        keeps: For every view the patches [B, K] to keep; None keeps all.
        joined: Encode views of one shape in one forward pass, see :func:`takes_joined_views`.
    """
    if joined and len({view.shape for view in views}) == 1:
        batch = torch.cat(list(views))
        outputs = backbone(batch) if keeps is None else backbone(batch, torch.cat(list(keeps)))
        features = outputs[-1].chunk(len(views))
    else:
        arguments = zip(views) if keeps is None else zip(views, keeps)
        features = [backbone(*each)[-1] for each in arguments]
    return [neck((feature,))[0] for feature in features]
