"""Target-enhanced conditional pre-training."""

from typing import Any

import torch

from mmselfsup_graft.models.backbones.tec_vit import Targets, TECViT
from mmselfsup_graft.models.base_model import FrozenBaseModel, LearnsFromBaseModel, build_part
from mmselfsup_graft.models.derived_sizes import fit
from mmselfsup_graft.models.masking import (
    PatchMask,
    check_mask_ratio,
    check_square_grid,
    draw_patch_mask,
)
from mmselfsup_graft.registry import MODELS

from .base import SelfSupAlgorithm


@MODELS.register_module()
class TEC(LearnsFromBaseModel, SelfSupAlgorithm):
    """A new model learns from a pre-trained base model through masked input (arXiv 2210.11016).

    The base model b sees the whole image x, the new one f a quarter of its patches. From the outputs of all blocks of f
    an adaptor and two small decoders g predict the base model's features F and rows A of its last attention map::

        F, A = b(x)
        F', A' = g(f(x visible), hidden)
        loss = mean of (F' - norm(F))^2 over hidden patches + cross-entropy(softmax(A / tau), softmax(A'))

    The base model is not part of the model's state: it is not in checkpoints, not in the optimizer and not wrapped for
    several processes, but moves with the model to its device.

    Args:
        base_model: Config of the base model, see :class:`TargetViT`.
        base_checkpoint: File with its weights, of any known format, ``zoo:NAME``, or ``dict(checkpoint=..., branch=...,
            format=...)`` as in a graft. Read by :meth:`init_weights`, also when a run is resumed. Of iBOT's and DINO's
            training files the teacher is taken. Without one the model can be built and its encoder used, but not
            trained. No shape tells how many attention heads the base model has: its ``arch`` must say so.
        neck: Config of adaptor and decoders, see :class:`TECDecoder`; what it must share with both models
            (``num_patches``, ``embed_dim``, ``depth``, ``target_dim``, ``target_num_heads``, ``predict_attention``)
            follows from them.
        mask_ratio: Share of patches that is hidden from the new model.
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If one of the two models is of another kind, both do not see images of the same size in the same
            patches, the neck is given other sizes, or the mask ratio hides none or all of the patches.
    """

    def __init__(
        self,
        base_model: dict,
        base_checkpoint: str | dict | None,
        backbone: dict,
        neck: dict,
        mask_ratio: float = 0.75,
        **kwargs: Any,
    ) -> None:
        base = FrozenBaseModel(build_part('TEC', 'base_model', base_model, 'TargetViT'), base_checkpoint)
        encoder: TECViT = build_part('TEC', 'backbone', backbone, 'TECViT')
        base.check(encoder)
        check_square_grid('TEC', encoder.patch_resolution)
        neck = fit('TEC', 'neck', {'type': 'TECDecoder', **neck}, _neck_sizes(encoder, base))
        super().__init__(backbone=encoder, neck=neck, **kwargs)
        check_mask_ratio('TEC', mask_ratio, encoder.num_patches)
        self.mask_ratio = mask_ratio
        self._base = base

    def masked_losses(
        self, inputs: torch.Tensor, targets: Targets, noise: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Losses of what the visible patches of images [B, C, H, W] predict; see :meth:`draw_mask` for ``noise``."""
        mask = self.draw_mask(inputs, noise)
        latent = self.backbone.encode_blocks(inputs, mask.keep)  # [B, 1 + K, depth * D]
        prediction = self.neck(latent, mask, targets.rows)  # features of hidden patches, logits of the rows
        return self.head.loss(prediction, targets, mask.hidden)

    def draw_mask(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> PatchMask:
        """Which patches of images [B, C, H, W] are kept: those with the smallest ``noise`` [B, L]; None draws it."""
        return draw_patch_mask('TEC', inputs, self.backbone, self.mask_ratio, noise)


def _neck_sizes(new: TECViT, base: FrozenBaseModel) -> dict[str, Any]:
    """Arguments of the neck that follow from both models."""
    return dict(num_patches=new.num_patches, embed_dim=new.embed_dims, depth=new.num_layers, **base.sizes())
