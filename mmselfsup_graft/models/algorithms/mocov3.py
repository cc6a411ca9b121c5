"""MoCo v3, and with a graft the second stage of Layer Grafted Pre-training."""

from collections.abc import Sequence
from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.masking import draw_patch_mask
from mmselfsup_graft.registry import MODELS

from .two_views import MomentumTwoViewAlgorithm, predict_views, project_views


@MODELS.register_module()
class MoCoV3(MomentumTwoViewAlgorithm):
    """Contrastive learning with a momentum encoder (Chen et al., arXiv 2104.02057).

    With encoder f, projector h, predictor p, and the moving averages f' and h' of the first two::

        q1, q2 = p(h(f(x1))), p(h(f(x2)))
        k1, k2 = h'(f'(x1)), h'(f'(x2))
        loss = ctr(q1, k2) + ctr(q2, k1)

    With ``graft`` it is Layer Grafted Pre-training's second stage: f and f' both start from the grafted weights
    (arXiv 2302.14138).

    Args:
        base_momentum: Momentum m, see :class:`MomentumTwoViewAlgorithm`.
        view_mask_ratio: Hide this share of patches in each view (the official ``mae_aug``, 0.75), the same ones from
            both encoders; None shows the whole views. Only for backbones that take ``keep``.
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If the momentum is outside [0, 1] or the backbone cannot mask its input.
    """

    def __init__(self, base_momentum: float = 0.99, view_mask_ratio: float | None = None, **kwargs: Any) -> None:
        super().__init__(base_momentum=base_momentum, **kwargs)
        if view_mask_ratio is not None and not hasattr(self.backbone, 'encode'):
            raise ConfigError(f'MoCoV3: view_mask_ratio needs a ViT backbone, got {type(self.backbone).__name__}')
        self.view_mask_ratio = view_mask_ratio

    def loss(
        self, inputs: Sequence[torch.Tensor], data_samples: Any = None, noise: Sequence[torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Symmetric contrastive loss.

        Args:
            inputs: The two views, each [B, C, H, W].
            data_samples: Unused; labels play no part.
            noise: [B, L] per view, deciding which patches masked views hide; None draws it.

        Raises:
            ConfigError: See :meth:`check_views`; or if masked views have another size than the encoder's.
        """
        self.check_views(inputs)
        keeps = self.draw_keeps(inputs, noise)  # [B, K] each
        q1, q2 = self.queries(inputs, keeps)  # [B, D] each
        k1, k2 = self.keys(inputs, keeps)  # [B, D] each
        ctr = self.head.compare
        return self.add_l1({'loss': ctr(q1, k2) + ctr(q2, k1)})

    def draw_keeps(
        self, views: Sequence[torch.Tensor], noise: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor] | None:
        """Patches [B, K] to keep of every masked view; None where whole views are shown."""
        if self.view_mask_ratio is None:
            return None
        owner, ratio = 'MoCoV3 with view_mask_ratio', self.view_mask_ratio
        drawn = zip(views, [None, None] if noise is None else noise)
        return [draw_patch_mask(owner, view, self.backbone, ratio, each).keep for view, each in drawn]

    def queries(self, views: Sequence[torch.Tensor], keeps: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """``q = p(h(f(x)))``, [B, D], of every view, not normalized."""
        return predict_views(self.head.predictor, project_views(self.backbone, self.neck, views, keeps))
