"""SimMIM: masked image modeling for any backbone that gives a feature map."""

from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.backbones import MaskToken
from mmselfsup_graft.models.derived_sizes import EncoderSizes, fit
from mmselfsup_graft.models.masking import block_grid, block_mask_from_noise, expand_mask
from mmselfsup_graft.registry import MODELS

from .base import SelfSupAlgorithm


class MaskTokenAlgorithm(SelfSupAlgorithm):
    """What masked image modeling has in common for backbones with a mask token (:class:`MaskToken`).

    Masks are drawn here, from the generator that is seeded for every iteration: they never repeat over epochs and
    come out the same after resuming. Differs from SimMIM's published code, whose masks repeat when loaders restart.

    Args:
        mask_patch: Side of a masked block in pixels; a divisor of the image's sides and a multiple of the stride at
            which the token acts.
        mask_ratio: Share of blocks to mask, rounded up.
        **kwargs: See :class:`SelfSupAlgorithm`; with ``graft`` and ``frozen_layers`` this is CL->MIM grafting.

    Raises:
        ConfigError: If the backbone takes no mask, or sizes are impossible.
    """

    def __init__(self, mask_patch: int = 32, mask_ratio: float = 0.6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(self.backbone, MaskToken):
            raise ConfigError(
                f'{type(self).__name__} needs a backbone with a mask token (MaskedResNet, MaskedViT, ...), got '
                f'{type(self.backbone).__name__}'
            )
        if mask_patch < 1:
            raise ConfigError(f'{type(self).__name__}: mask_patch={mask_patch} must be at least 1 pixel')
        if not 0 < mask_ratio < 1:
            raise ConfigError(f'{type(self).__name__}: mask_ratio={mask_ratio} must lie between 0 and 1')
        self.mask_patch = mask_patch
        self.mask_ratio = mask_ratio

    def draw_mask(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Masks [B, h, w] on the grid of blocks, 1 = masked, one of its own for each image [B, C, H, W].

        Blocks with the smallest ``noise`` [B, h, w] are masked; None draws it.
        """
        grid = block_grid((inputs.shape[2], inputs.shape[3]), self.mask_patch)
        if noise is None:
            noise = torch.rand(len(inputs), *grid, device=inputs.device)
        return block_mask_from_noise(noise, self.mask_ratio)


@MODELS.register_module()
class SimMIM(MaskTokenAlgorithm):
    """Masked image modeling with a mask token inside the encoder (Xie et al., arXiv 2111.09886).

    Blocks of pixels M are drawn for every image x. The encoder f sees the whole image; where blocks are masked, a
    learned token replaces its features. One convolution g predicts all pixels from the last map::

        y = g(f(x, M))
        loss = sum of |y - x| over M / (number of pixels in M)

    Args:
        **kwargs: See :class:`MaskTokenAlgorithm`.
    """

    def loss(
        self, inputs: torch.Tensor, data_samples: Any = None, mask: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Reconstruction loss of images [B, C, H, W]; ``mask`` as in :meth:`forward_masked`."""
        prediction, mask = self.forward_masked(inputs, mask)  # [B, C, H, W]
        return self.add_l1(self.head.loss(prediction, inputs, mask))

    def forward_masked(
        self, inputs: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict images whose masked parts are hidden inside the encoder.

        Args:
            inputs: [B, C, H, W] normalized images.
            mask: [B, h, w], 1 = masked, on any grid between that of the blocks and that of the map where the token
                acts; None draws it.

        Returns:
            Predicted images [B, C, H, W] and the mask [B, h, w].
        """
        mask = self.draw_mask(inputs) if mask is None else mask  # [B, h, w]
        features = self.backbone(inputs, mask=mask)  # the last one [B, D, H / stride, W / stride]
        return self.neck(features), mask

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """The neck turns every position of the encoder's last map into the pixels that it covers."""
        follows = {'in_channels': sizes.channels, 'stride': sizes.stride, 'out_channels': sizes.in_channels}
        return fit(type(self).__name__, 'neck', neck, follows), head

    @torch.no_grad()
    def reconstruct(self, inputs: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction [B, C, H, W] in the units of ``inputs`` and the mask [B, 1, H, W], 1 where hidden."""
        prediction, mask = self.forward_masked(inputs, mask)
        return prediction, expand_mask(mask, (inputs.shape[2], inputs.shape[3]))
