"""MAE (He et al., arXiv 2111.06377): encode visible patches, decode all, compare the hidden ones."""

from typing import Any

import torch

from . import vit


def predict(model: Any, images: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions of all patches [B, L, P * P * C] in the order of the image, and the mask [B, L]."""
    decoder, count = model.neck, noise.shape[1]
    keep, mask = vit.shuffle(noise, model.mask_ratio)
    tokens = decoder.decoder_embed(vit.encode(model.backbone, images, keep))
    patches = vit.fill_in(tokens[:, 1:], keep, decoder.mask_token, count)
    tokens = torch.cat([tokens[:, :1], patches], 1) + decoder.decoder_pos_embed
    for layer in decoder.decoder_blocks:
        tokens = vit.block(layer, tokens)
    return decoder.decoder_pred(decoder.decoder_norm(tokens))[:, 1:], mask


def patches_of(images: torch.Tensor, side: int) -> torch.Tensor:
    """Pixels of every patch, row by row: [B, L, P * P * C], channels last in a patch."""
    rows = images.split(side, 2)
    return torch.stack([patch.permute(0, 2, 3, 1).flatten(1) for row in rows for patch in row.split(side, 3)], 1)


def losses(model: Any, images: torch.Tensor, noise: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Mean over the hidden patches of the mean squared difference to their pixels, normalized if the head says so."""
    noise = torch.rand(len(images), model.backbone.num_patches, device=images.device) if noise is None else noise
    prediction, mask = predict(model, images, noise)
    with torch.autocast(images.device.type, enabled=False):
        target = patches_of(images, model.head.patch_size)
        if model.head.norm_pix:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
        error = (prediction.to(target.dtype) - target).square().mean(-1)  # [B, L]
        return {'loss': (error * mask).sum() / mask.sum()}
