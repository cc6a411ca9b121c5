"""TEC for an encoder of another kind than its base model: ResNet, ConvNeXt, Swin, or a ViT that sees the whole grid."""

from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.backbones.tec_vit import Targets
from mmselfsup_graft.models.base_model import FrozenBaseModel, LearnsFromBaseModel, build_part
from mmselfsup_graft.models.derived_sizes import fit, last_map, sizes_of
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.models.losses import area_weights
from mmselfsup_graft.models.masking import block_grid, count_hidden_blocks, masked_positions
from mmselfsup_graft.registry import MODELS

from .simmim import MaskTokenAlgorithm


@MODELS.register_module()
class MaskedTEC(LearnsFromBaseModel, MaskTokenAlgorithm):
    """A new model with a mask token learns from a pre-trained ViT (ours, after TEC, arXiv 2210.11016).

    The base model sees the whole image. The new one sees it with a mask token in hidden blocks, as in SimMIM (arXiv
    2111.09886), and predicts the base model's targets from its last feature map: features at masked positions, and
    rows of the last attention map over all positions.

    The two grids may differ. Targets are averaged over the area of each position of the map (:func:`area_weights`),
    features before they are normalized, attention after its softmax, so that a row still sums to 1. The rows are those
    that TEC chooses: of the class token, which asks with the mean over the map, and of the patches to which it attends
    most, each of which asks with the mean of the map over its area.

    Kept from TEC: the base model, both targets and both losses, and the conditional adaptor, whose only chunk is the
    last map. Left out: outputs of earlier blocks, which have other grids; the MLP behind the class token, as there is
    none; the decoder. The new model computes hidden places, too, so that a step costs a whole forward pass.

    Args:
        base_model: Config of the base model, see :class:`TargetViT`; ``in_channels`` follows from the backbone.
        base_checkpoint: File with its weights, as in :class:`TEC`.
        backbone: Config of the new model, one with a mask token that gives a map (:class:`MaskedResNet`, ...).
        neck: Config of adaptor and predictions, see :class:`TECMapNeck`; what it shares with both models
            (``in_channels``, ``target_dim``, ``target_num_heads``, ``predict_attention``) follows from them.
        mask_patch: Side of a masked block in pixels, a multiple of the backbone's stride, so that positions are masked
            or not; None takes the stride.
        **kwargs: See :class:`MaskTokenAlgorithm`.

    Raises:
        ConfigError: If the backbone takes no mask or gives no map, or the sizes of images, blocks and map do not fit.
    """

    def __init__(
        self,
        base_model: dict,
        base_checkpoint: str | dict | None,
        backbone: dict,
        neck: dict,
        mask_patch: int | None = None,
        **kwargs: Any,
    ) -> None:
        refuse_pretrained_init(backbone, 'MaskedTEC')
        encoder = MODELS.build(backbone)
        sizes = sizes_of(encoder)
        base_model = fit(
            'MaskedTEC', 'base_model', {'type': 'TargetViT', **base_model}, {'in_channels': sizes.in_channels}
        )
        base = FrozenBaseModel(build_part('MaskedTEC', 'base_model', base_model, 'TargetViT'), base_checkpoint)
        neck = fit('MaskedTEC', 'neck', {'type': 'TECMapNeck', **neck}, base.sizes())
        super().__init__(backbone=encoder, neck=neck, mask_patch=_block_side(sizes.stride, mask_patch), **kwargs)
        rows, columns = block_grid(base.vit.img_size, self.mask_patch)
        self.hidden_blocks = count_hidden_blocks(self.mask_ratio, rows * columns)
        self._base = base

    def masked_losses(
        self, inputs: torch.Tensor, targets: Targets, noise: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Losses of what images [B, C, H, W] with hidden blocks predict; see :meth:`draw_mask` for ``noise``."""
        mask = self.draw_mask(inputs, noise)  # [B, rows of blocks, columns of blocks]
        x = last_map('MaskedTEC', self.backbone(inputs, mask=mask))  # [B, D, h, w]
        grid, base_grid = (x.shape[2], x.shape[3]), self.base_model.patch_resolution
        hidden = masked_positions(mask, self.hidden_blocks, grid)  # [B, M']
        prediction = self.neck(x, hidden, base_grid, targets.rows)  # features of hidden positions, logits of the rows
        return self.head.loss(prediction, targets, hidden, area_weights(base_grid, grid, like=x))


def _block_side(stride: int | None, mask_patch: int | None) -> int:
    """Side of a masked block in pixels, a multiple of the stride of the encoder."""
    if stride is None:
        raise ConfigError(
            'MaskedTEC needs a backbone whose last feature is a map [B, D, H, W]; a ConvNeXt gives one with '
            'gap_before_final_norm=False'
        )
    if mask_patch is not None and mask_patch % stride:
        raise ConfigError(
            f'MaskedTEC: mask_patch={mask_patch} is not a multiple of {stride}, the stride of the backbone: a position '
            'of its map would be masked in part; choose a multiple or leave it out'
        )
    return stride if mask_patch is None else mask_patch
