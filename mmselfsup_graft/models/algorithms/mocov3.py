"""MoCo v3, and with a graft the second stage of Layer Grafted Pre-training."""

from collections.abc import Sequence
from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

from ..masking import mask_from_noise
from ..momentum import MomentumEncoder
from .two_views import TwoViewAlgorithm, project_views


@MODELS.register_module()
class MoCoV3(TwoViewAlgorithm):
    """Contrastive learning with a momentum encoder (Chen et al., arXiv 2104.02057).

    ``loss = ctr(q1, k2) + ctr(q2, k1)``. With ``graft`` it is Layer Grafted Pre-training's second stage: base and
    momentum encoder both start from the grafted weights (arXiv 2302.14138).

    The momentum encoder is updated once per optimiser step, before the keys are computed, by ``momentum``; the
    schedule of ``momentum`` and the skipping of accumulation steps are set by
    :class:`mmselfsup_graft.engine.MomentumScheduleHook`.

    Args:
        base_momentum: Momentum m of the moving average, in [0, 1].
        view_mask_ratio: Hide this share of patches in each view (the official ``mae_aug``, 0.75), the same ones from
            both encoders; None shows the whole views. Only for backbones that take ``keep``.
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If the momentum is outside [0, 1] or the backbone cannot mask its input.
    """

    def __init__(self, base_momentum: float = 0.99, view_mask_ratio: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= base_momentum <= 1:
            raise ConfigError(f'MoCoV3: base_momentum must lie in [0, 1], got {base_momentum}')
        if view_mask_ratio is not None and not hasattr(self.backbone, 'encode'):
            raise ConfigError(f'MoCoV3: view_mask_ratio needs a ViT backbone, got {type(self.backbone).__name__}')
        self.base_momentum = base_momentum
        self.momentum = base_momentum
        self.update_due = True
        self.view_mask_ratio = view_mask_ratio
        self.momentum_encoder = MomentumEncoder(self.backbone, self.neck)

    def train(self, mode: bool = True) -> 'MoCoV3':
        """Set train mode; what is frozen stays in eval mode, in the momentum encoder too."""
        super().train(mode)
        if mode:
            self._frozen_to_eval(self.momentum_encoder.backbone)
        return self

    def after_graft(self) -> None:
        """The momentum encoder starts as a copy of the base encoder and projector, grafted or fresh."""
        super().after_graft()
        self.momentum_encoder.copy_from(self.backbone, self.neck)

    def _keeps(self, views: Sequence[torch.Tensor], noise: Sequence[torch.Tensor] | None) -> list[torch.Tensor] | None:
        if self.view_mask_ratio is None:
            return None
        if noise is None:
            noise = [torch.rand(len(view), self.backbone.num_patches, device=view.device) for view in views]
        return [mask_from_noise(each, self.view_mask_ratio).keep for each in noise]

    @torch.no_grad()
    def keys(self, views: Sequence[torch.Tensor], keeps: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Update the momentum encoder if that is due and return its features [B, D] of each view."""
        if self.training and self.update_due:
            self.momentum_encoder.update(self.backbone, self.neck, self.momentum)
        follower = self.momentum_encoder
        return project_views(follower.backbone, follower.neck, views, keeps, self.joined_views)

    def loss(
        self, inputs: Sequence[torch.Tensor], data_samples: Any = None, noise: Sequence[torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Symmetric contrastive loss.

        Args:
            inputs: The two views, each [B, C, H, W].
            data_samples: Unused; labels play no part.
            noise: [B, L] per view, deciding which patches masked views hide; None draws it.

        Raises:
            ConfigError: See :meth:`check_views`.
        """
        self.check_views(inputs)
        keeps = self._keeps(inputs, noise)
        first, second = project_views(self.backbone, self.neck, inputs, keeps, self.joined_views)
        key_first, key_second = self.keys(inputs, keeps)
        loss = self.head.loss(first, key_second) + self.head.loss(second, key_first)
        return self.add_l1({'loss': loss})
