"""MoCo v3, and with a graft the second stage of Layer Grafted Pre-training."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

from ..backbones import SelfSupViT
from ..fitting import EncoderSizes, fit
from ..masking import check_image_size, mask_from_noise
from ..momentum import MomentumEncoder
from .two_views import TwoViewAlgorithm, map_views, project_views


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
        self._compared: tuple[list[tuple[int, int]], bool] | None = None  # states of patch embeddings, are they equal

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """The predictor maps projections to projections."""
        neck, head = super().fit_parts(sizes, neck, head)
        if isinstance(neck, Mapping) and isinstance(head, Mapping) and 'predictor' in head:
            width = neck.get('out_channels')
            follows = {} if width is None else {'in_channels': width, 'out_channels': width}
            head = {**head, 'predictor': fit('MoCoV3', 'head.predictor', head['predictor'], follows)}
        return neck, head

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
        for view in views:
            check_image_size('MoCoV3 with view_mask_ratio', view, self.backbone.img_size)
        if noise is None:
            noise = [torch.rand(len(view), self.backbone.num_patches, device=view.device) for view in views]
        return [mask_from_noise(each, self.view_mask_ratio).keep for each in noise]

    def follow(self) -> None:
        """Move the momentum encoder one step towards the base encoder, by ``momentum``."""
        is_known = self._compared is not None and self._compared[0] == self._embedding_states()
        self.momentum_encoder.update(self.backbone, self.neck, self.momentum)
        if self._compared is not None and is_known:  # what is equal stays equal, what is not need not be shared
            self._compared = self._embedding_states(), self._compared[1]

    @torch.no_grad()
    def keys(self, views: Sequence[torch.Tensor], keeps: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Update the momentum encoder if that is due and return its features [B, D] of each view."""
        if self.training and self.update_due:
            self.follow()
        follower = self.momentum_encoder
        return project_views(follower.backbone, follower.neck, views, keeps, joined=not self.plain)

    def queries(self, views: Sequence[torch.Tensor], keeps: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Predictions [B, D] of each view, not normalised."""
        projections = project_views(self.backbone, self.neck, views, keeps, joined=not self.plain)
        return map_views(self.head.predictor, self.head.predict, projections, joined=not self.plain)

    def _embedded_once(
        self, views: Sequence[torch.Tensor], keeps: Sequence[torch.Tensor] | None
    ) -> Sequence[torch.Tensor]:
        """Patches of each view where both encoders embed them in the same way, else the views as they are."""
        if self.plain or not isinstance(self.backbone, SelfSupViT) or not self._patch_embeddings_agree():
            return views
        if any(tuple(view.shape[-2:]) != tuple(self.backbone.img_size) for view in views):
            return views  # positions would need the grid
        columns = [views] if keeps is None else [views, keeps]
        return [self.backbone.embed_patches(*each) for each in zip(*columns)]

    def _patch_embeddings_agree(self) -> bool:
        """Whether patch embeddings are frozen and equal; the average of equal weights is the same, bit for bit."""
        ours, theirs = self._patch_embeddings()
        if any(parameter.requires_grad for parameter in ours):
            return False
        states = self._embedding_states()
        if self._compared is None or self._compared[0] != states:  # not at every step: comparing waits for the device
            self._compared = states, all(torch.equal(*pair) for pair in zip(ours, theirs))
        return self._compared[1]

    def _patch_embeddings(self) -> list[list[torch.Tensor]]:
        """Parameters of the base encoder's patch embedding and of the momentum encoder's."""
        encoders: tuple[Any, ...] = (self.backbone, self.momentum_encoder.backbone)
        if not all(hasattr(each, 'patch_embed') for each in encoders):
            return [[], []]
        return [list(each.patch_embed.parameters()) for each in encoders]

    def _embedding_states(self) -> list[tuple[int, int]]:
        """Another list whenever one of these parameters was replaced or written to, by loading weights for example."""
        return [(id(each), each._version) for part in self._patch_embeddings() for each in part]

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
        keeps = self._keeps(inputs, noise)
        seen = self._embedded_once(inputs, keeps)
        first, second = self.queries(seen, keeps)
        key_first, key_second = self.keys(seen, keeps)
        loss = self.head.compare(first, key_second) + self.head.compare(second, key_first)
        return self.add_l1({'loss': loss})
