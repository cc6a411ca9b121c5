"""Pixel loss of SimMIM."""

import torch
from mmengine.model import BaseModule

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.losses import masked_l1
from mmselfsup_graft.models.masking import expand_mask
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class SimMIMHead(BaseModule):
    """Compare reconstructed and original pixels where they were masked (SimMIM, arXiv 2111.09886).

    Differs from mmpretrain's SimMIMHead in that the grid of the mask is read off the mask, and that the loss stays in
    float32 under autocast.
    """

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss by name, L1 of masked pixels, a scalar.

        Args:
            prediction: [B, C, H, W].
            target: [B, C, H, W] normalized images.
            mask: [B, h, w] grid of blocks, 1 = masked; h divides H and w divides W.

        Raises:
            ConfigError: If prediction and images differ in shape.
        """
        return {'loss': masked_l1(prediction, target, pixel_mask(prediction, target, mask))}


def pixel_mask(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mask on pixels, [B, 1, H, W]; arguments of :meth:`SimMIMHead.loss`.

    Raises:
        ConfigError: If prediction and images differ in shape.
    """
    if prediction.shape != target.shape:
        raise ConfigError(
            f'the neck reconstructs {tuple(prediction.shape[1:])}, images are {tuple(target.shape[1:])} (channels, '
            "height, width): set the neck's stride to that of the backbone and its out_channels to the images'"
        )
    return expand_mask(mask, (target.shape[2], target.shape[3]))
