"""Masked auto-encoder."""

from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import EncoderSizes, fit
from mmselfsup_graft.models.masking import (
    PatchMask,
    check_image_size,
    check_mask_ratio,
    check_square_grid,
    draw_patch_mask,
    groups_of_masks,
    take_tokens,
)
from mmselfsup_graft.models.necks import MAEDecoder
from mmselfsup_graft.registry import MODELS

from .base import SelfSupAlgorithm


@MODELS.register_module()
class MAE(SelfSupAlgorithm):
    """Masked image modeling on pixels (He et al., arXiv 2111.06377).

    With encoder f, decoder g and x_p the pixels of patch p (normalized per patch if the head says so)::

        z = f(x_p for p visible)
        y = g(z, hidden)
        loss = mean of (y_p - x_p)^2 over p hidden

    Args:
        mask_ratio: Share of patches that is hidden.
        **kwargs: See :class:`SelfSupAlgorithm`; with ``graft`` and ``frozen_layers`` this is CL->MIM grafting.

    Raises:
        ConfigError: If the mask ratio hides none or all of the patches, or a part is of another kind.
    """

    def __init__(self, mask_ratio: float = 0.75, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not hasattr(self.backbone, 'encode'):
            raise ConfigError(f'MAE needs a SelfSupViT backbone, got {type(self.backbone).__name__}')
        check_square_grid('MAE', self.backbone.patch_resolution)
        if not isinstance(self.neck, MAEDecoder):
            raise ConfigError(f'MAE needs a MAEDecoder as neck, got {type(self.neck).__name__}')
        check_mask_ratio('MAE', mask_ratio, self.backbone.num_patches)
        self.mask_ratio = mask_ratio

    def loss(self, inputs: torch.Tensor, data_samples: Any = None, noise: torch.Tensor | None = None) -> dict:
        """Mean squared error of the hidden patches of images [B, C, H, W]; ``noise`` as in :meth:`draw_mask`."""
        mask = self.draw_mask(inputs, noise)
        tokens = self.backbone.encode(inputs, mask.keep)  # [B, 1 + K, D]
        prediction = self.neck(tokens, mask)  # [B, L - K, P * P * C]
        target = take_tokens(self.head.construct_target(inputs), mask.hidden)  # [B, L - K, P * P * C]
        return self.add_l1({'loss': self._error(prediction, target)})

    def draw_mask(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> PatchMask:
        """Which patches of images [B, C, H, W] are kept: those with the smallest ``noise`` [B, L]; None draws it."""
        return draw_patch_mask('MAE', inputs, self.backbone, self.mask_ratio, noise)

    def _error(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scalar, in the precision of the images also under autocast."""
        with torch.autocast(target.device.type, enabled=False):
            return self.head.loss_module(prediction.to(target.dtype), target, torch.ones_like(target[..., 0]))

    def forward_masked(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, PatchMask]:
        """Prediction [B, L, P * P * C] of all patches from the visible ones, and the mask; see :meth:`loss`."""
        mask = self.draw_mask(inputs, noise)
        return self.neck.predict_all(self.backbone.encode(inputs, mask.keep), mask), mask

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """The decoder takes the encoder's tokens, and both decoder and head cut images into its patches."""
        if sizes.num_patches is None:
            return neck, head  # not a ViT, which is refused as soon as it is there
        images = {'patch_size': sizes.stride, 'in_chans': sizes.in_channels, 'in_channels': sizes.in_channels}
        decoder = {'num_patches': sizes.num_patches, 'embed_dim': sizes.channels, **images}
        return fit('MAE', 'neck', neck, decoder), fit('MAE', 'head', head, images)

    @property
    def mask_patch(self) -> int:
        """Side in pixels of the patches that are hidden or visible as a whole."""
        return self.head.patch_size

    @torch.no_grad()
    def reconstruct(
        self, inputs: torch.Tensor, noise: torch.Tensor | None = None, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstruct images.

        Args:
            inputs: [B, C, H, W] normalized images.
            noise: As in :meth:`draw_mask`.
            mask: [B, h, w] on the grid of patches, 1 = hidden, instead of noise; images may hide different numbers.

        Returns:
            The prediction [B, C, H, W] in the units of ``inputs`` (a per-patch normalized prediction is given the
            mean and variance of the original patch), and the mask [B, 1, H, W], 1 where hidden.
        """
        check_image_size('MAE', inputs, self.backbone.img_size)
        hidden = self.draw_mask(inputs, noise).mask if mask is None else mask.flatten(1).to(inputs.dtype)  # [B, L]
        prediction, head = torch.empty_like(self.head.patchify(inputs)), self.head  # [B, L, P * P * C]
        for rows, group in groups_of_masks(hidden):
            tokens = self.backbone.encode(inputs[rows], group.keep)
            prediction[rows] = self.neck.predict_all(tokens, group).to(prediction.dtype)
        if head.norm_pix:
            patches = head.patchify(inputs)
            prediction = prediction * (patches.var(-1, keepdim=True) + 1e-6).sqrt() + patches.mean(-1, keepdim=True)
        pixels = hidden[..., None].expand(-1, -1, head.patch_size**2 * head.in_channels)
        return head.unpatchify(prediction), head.unpatchify(pixels)[:, :1]
