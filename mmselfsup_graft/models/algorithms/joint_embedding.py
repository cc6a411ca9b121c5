"""Contrastive learning without a momentum encoder: SimCLR, VICReg."""

from collections.abc import Sequence
from typing import Any

import torch

from mmselfsup_graft.registry import MODELS

from .two_views import TwoViewAlgorithm


@MODELS.register_module()
class JointEmbedding(TwoViewAlgorithm):
    """Two views through one encoder and projector; the head compares the two projections.

    With :class:`NTXentHead` this is SimCLR (Chen et al., arXiv 2002.05709), with :class:`VICRegHead` VICReg (Bardes et
    al., arXiv 2105.04906), with ``graft`` either of them as the second stage of Layer Grafted Pre-training.

    Args:
        **kwargs: See :class:`SelfSupAlgorithm`.
    """

    def loss(self, inputs: Sequence[torch.Tensor], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """Loss of the two views in ``inputs``, each [B, C, H, W]; labels in ``data_samples`` play no part.

        Raises:
            ConfigError: See :meth:`check_views`.
        """
        self.check_views(inputs)
        z1, z2 = self.project(inputs)  # [B, D] each
        return self.add_l1({'loss': self.head.loss(z1, z2)})
