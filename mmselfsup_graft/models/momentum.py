"""Moving-average copy of an encoder."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import nn


class MomentumEncoder(nn.Module):
    """Exponential moving average of a backbone and its projector.

    The average runs over parameters, trained or fixed; buffers are not averaged: the copy stays in train mode and
    keeps its own batch-norm statistics, as in MoCo v3. Differs from mmengine's averaged models: no copy at the first
    update, and one fused update without any host read.

    Args:
        backbone: Encoder to follow.
        neck: Projector to follow.
    """

    def __init__(self, backbone: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.backbone = deepcopy(backbone)
        self.neck = deepcopy(neck)
        self.requires_grad_(False)

    def init_weights(self) -> None:
        """Nothing of its own to initialize: weights come from :meth:`copy_from`."""

    @torch.no_grad()
    def copy_from(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Copy all parameters and buffers."""
        self.backbone.load_state_dict(backbone.state_dict())
        self.neck.load_state_dict(neck.state_dict())

    @torch.no_grad()
    def update(self, backbone: nn.Module, neck: nn.Module, momentum: float) -> None:
        """``theta' <- momentum * theta' + (1 - momentum) * theta`` for every parameter."""
        followed = [*backbone.parameters(), *neck.parameters()]
        torch._foreach_lerp_(list(self.parameters()), [p.detach() for p in followed], 1.0 - momentum)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> Sequence[torch.Tensor]:
        """Projected features of images [B, C, H, W], a tuple of one [B, D] tensor."""
        return self.neck(self.backbone(x) if keep is None else self.backbone(x, keep))
