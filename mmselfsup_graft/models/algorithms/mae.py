"""Masked auto-encoder."""

from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

from ..fitting import EncoderSizes, fit
from ..masking import PatchMask, check_image_size, check_square_grid, mask_from_cells, mask_from_noise, take_patches
from ..necks import MAEDecoder
from .base import SelfSupAlgorithm


@MODELS.register_module()
class MAE(SelfSupAlgorithm):
    """Masked image modelling on pixels (He et al., arXiv 2111.06377).

    Encode the visible patches, let a small decoder predict the hidden ones, compare pixels (normalised per patch if
    the head says so) on hidden patches only.

    Args:
        mask_ratio: Share of patches that is hidden.
        **kwargs: See :class:`SelfSupAlgorithm`; with ``graft`` and ``frozen_layers`` this is CL->MIM grafting.

    Raises:
        ConfigError: If the mask ratio hides none or all of the patches.
    """

    def __init__(self, mask_ratio: float = 0.75, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not hasattr(self.backbone, 'encode'):
            raise ConfigError(f'MAE needs a SelfSupViT backbone, got {type(self.backbone).__name__}')
        check_square_grid('MAE', self.backbone.patch_resolution)
        visible = int(self.backbone.num_patches * (1 - mask_ratio))
        if not 0 < visible < self.backbone.num_patches:
            raise ConfigError(f'MAE: mask_ratio={mask_ratio} leaves {visible} of {self.backbone.num_patches} patches')
        self.mask_ratio = mask_ratio

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """The decoder takes the encoder's tokens, and both decoder and head cut images into its patches."""
        if sizes.num_patches is None:
            return neck, head  # no ViT, which is refused as soon as it is there
        images = {'patch_size': sizes.stride, 'in_chans': sizes.in_channels, 'in_channels': sizes.in_channels}
        decoder = {'num_patches': sizes.num_patches, 'embed_dim': sizes.channels, **images}
        return fit('MAE', 'neck', neck, decoder), fit('MAE', 'head', head, images)

    def forward_masked(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, PatchMask]:
        """Predict all patches from the visible ones.

        Args:
            inputs: [B, C, H, W] normalised images.
            noise: [B, L] noise that decides what is hidden; None draws it.

        Returns:
            Predicted patches [B, L, P * P * C] and the mask.
        """
        mask = self.draw_mask(inputs, noise)
        tokens = self.backbone.encode(inputs, mask.keep)  # [B, 1 + K, D]
        return self.neck(tokens, mask.restore), mask

    def draw_mask(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> PatchMask:
        """Which patches of images [B, C, H, W] are kept; ``noise`` [B, L] decides, None draws it.

        Raises:
            ConfigError: For images of another size than the encoder's.
        """
        check_image_size('MAE', inputs, self.backbone.img_size)
        if noise is None:
            noise = torch.rand(len(inputs), self.backbone.num_patches, device=inputs.device)
        return mask_from_noise(noise, self.mask_ratio)

    def loss(self, inputs: torch.Tensor, data_samples: Any = None, noise: torch.Tensor | None = None) -> dict:
        """Reconstruction loss of images [B, C, H, W]; ``noise`` as in :meth:`forward_masked`."""
        if self.plain or not isinstance(self.neck, MAEDecoder):
            prediction, mask = self.forward_masked(inputs, noise)
            return self.add_l1({'loss': self._compare(prediction, inputs, mask.mask)})
        mask = self.draw_mask(inputs, noise)
        tokens = self.backbone.encode(inputs, mask.keep)  # [B, 1 + K, D]
        prediction = self.neck.predict_hidden(tokens, mask)  # [B, L - K, P * P * C]
        return self.add_l1({'loss': self._compare_hidden(prediction, inputs, mask.hidden)})

    def _compare(self, prediction: torch.Tensor, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            prediction = prediction.float() if prediction.dtype != images.dtype else prediction
            return self.head.loss(prediction, images, mask)

    def _compare_hidden(self, prediction: torch.Tensor, images: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The same without targets of visible patches: to the head, every hidden patch is an image of one patch."""
        side = self.head.patch_size
        patches = take_patches(images, (side, side), hidden).flatten(0, 1)  # [B * (L - K), C, P, P]
        return self._compare(prediction.flatten(0, 1)[:, None], patches, torch.ones_like(patches[:, 0, 0, :1]))

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
            inputs: [B, C, H, W] normalised images.
            noise: As in :meth:`forward_masked`.
            mask: [B, h, w] on the grid of patches, 1 = hidden, instead of noise; images may hide different numbers.

        Returns:
            The prediction [B, C, H, W] in the units of ``inputs`` (a per-patch normalised prediction is given the
            mean and variance of the original patch), and the mask [B, 1, H, W], 1 where hidden.
        """
        if mask is None:
            prediction, drawn = self.forward_masked(inputs, noise)
            hidden = drawn.mask
        else:
            hidden = mask.flatten(1).to(inputs.dtype)  # [B, L]
            prediction = self._predict_given(inputs, hidden)
        head = self.head
        if head.norm_pix:
            patches = head.patchify(inputs)
            prediction = prediction * (patches.var(-1, keepdim=True) + 1e-6).sqrt() + patches.mean(-1, keepdim=True)
        pixels = hidden[..., None].expand(-1, -1, head.patch_size**2 * head.in_channels)
        return head.unpatchify(prediction), head.unpatchify(pixels)[:, :1]

    def _predict_given(self, inputs: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Patches [B, L, P * P * C] under given masks [B, L]: images that hide equally many go through together."""
        check_image_size('MAE', inputs, self.backbone.img_size)
        counts = hidden.sum(1)
        groups = [(counts == count).nonzero()[:, 0] for count in counts.unique()]
        predictions = []
        for rows in groups:
            mask = mask_from_cells(hidden[rows])
            predictions.append(self.neck(self.backbone.encode(inputs[rows], mask.keep), mask.restore))
        return torch.cat(predictions)[torch.cat(groups).argsort()]
