"""Contrastive learning without a momentum encoder: SimCLR, VICReg."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

from .base import SelfSupAlgorithm
from .projection import project_views, takes_joined_views


@MODELS.register_module()
class JointEmbedding(SelfSupAlgorithm):
    """Two views through one encoder and projector; the head compares the two projections.

    With :class:`NTXentHead` this is SimCLR (Chen et al., arXiv 2002.05709), with :class:`VICRegHead` VICReg (Bardes et
    al., arXiv 2105.04906), with ``graft`` either of them as the second stage of Layer Grafted Pre-training.

    Args:
        **kwargs: See :class:`SelfSupAlgorithm`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._joint_views = takes_joined_views(self.backbone)

    def encoder_parameters(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        """Backbone parameters, then the projector's, which counts as the encoder's upper end."""
        yield from super().encoder_parameters()
        for name, parameter in self.neck.named_parameters():
            yield f'neck.{name}', self.depth.num_blocks + 1, parameter

    def loss(self, inputs: Sequence[torch.Tensor], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """Loss of the two views in ``inputs``, each [B, C, H, W]; labels in ``data_samples`` play no part.

        Raises:
            ConfigError: If there are not exactly two views, or a single image on a single process.
        """
        if len(inputs) != 2 or isinstance(inputs, torch.Tensor):
            raise ConfigError('JointEmbedding needs two views of every image; use the TwoViews transform')
        if self.training and len(inputs[0]) * get_world_size() < 2:
            raise ConfigError('JointEmbedding and its batch norm need a batch of 2 or more, got 1; raise batch_size')
        first, second = project_views(self.backbone, self.neck, inputs, joined=self._joint_views)
        return self.add_l1({'loss': self.head.loss(first, second)})
