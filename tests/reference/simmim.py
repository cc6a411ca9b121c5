"""SimMIM (Xie et al., arXiv 2111.09886): a token in place of masked features, one layer to pixels, L1."""

import math
from typing import Any

import torch

from . import vit


def draw(model: Any, images: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Masks [B, h, w]: of the blocks of every image, the ``ceil(ratio h w)`` of the smallest noise."""
    grid = [side // model.mask_patch for side in images.shape[2:]]
    noise = torch.rand(len(images), *grid, device=images.device) if noise is None else noise
    count = math.ceil(model.mask_ratio * grid[0] * grid[1])
    limits = noise.flatten(1).sort(1).values[:, count - 1]
    return (noise <= limits[:, None, None]).to(images.dtype)


def enlarge(mask: torch.Tensor, side: int) -> torch.Tensor:
    """The mask [B, h, w] on a finer grid, [B, side, side]."""
    index = torch.arange(side, device=mask.device) * mask.shape[1] // side
    return mask[:, index][:, :, index]


def features(backbone: Any, images: torch.Tensor, mask: torch.Tensor, layer: int = 0) -> torch.Tensor:
    """Last map of a ViT whose embedded patches, or a ResNet whose input of stage ``layer + 1`` is masked."""
    if hasattr(backbone, 'pos_embed'):
        side = round(backbone.num_patches**0.5)
        tokens = vit.encode(backbone, images, None, enlarge(mask, side).flatten(1))
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    x = backbone.relu(backbone.norm1(backbone.conv1(images)))
    for number, name in enumerate(backbone.res_layers):
        if number == layer:
            m = enlarge(mask, x.shape[-1])[:, None]
            kept = x * (1 - m) if backbone.mask_replace else x
            if backbone.mask_gamma is not None:
                kept = x * (1 - m) + backbone.mask_gamma * x * m
            x = kept + backbone.mask_token * m
        x = getattr(backbone, name)(x)
    return x


def to_pixels(neck: Any, x: torch.Tensor) -> torch.Tensor:
    """Every position of the map predicts a square of pixels: [B, D, h, w] -> [B, C, H, W]."""
    convolution, side = neck.decoder[0], neck.decoder[1].upscale_factor
    squares = convolution(neck.block(x))  # [B, C side^2, h, w], channel by channel, row by row
    batch, _, height, width = squares.shape
    squares = squares.reshape(batch, -1, side, side, height, width).permute(0, 1, 4, 2, 5, 3)
    return squares.reshape(batch, -1, height * side, width * side)


def losses(model: Any, images: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Mean absolute difference of the masked pixels."""
    mask = draw(model, images) if mask is None else mask
    prediction = to_pixels(model.neck, features(model.backbone, images, mask))
    m = enlarge(mask, images.shape[-1])[:, None]
    with torch.autocast(images.device.type, enabled=False):
        error = (prediction.to(images.dtype) - images).abs() * m
        return {'loss': error.sum() / ((m.sum() + 1e-5) * images.shape[1])}
