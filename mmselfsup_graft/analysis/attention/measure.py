"""Attention of the class token to the patches, and principal components of the patches' features."""

from typing import Any, NamedTuple

import numpy as np
import torch
from mmpretrain.models.utils import MultiheadAttention

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation.pooling import extra_tokens, has_class_token, token_output
from mmselfsup_graft.models.blocks import NormedAttention, norm_queries


class Attention(NamedTuple):
    """Attention to the patches in one block.

    Attributes:
        maps: [B, heads, H, W], the weights of the patches divided by their sum: every map sums to one.
        share: [B, heads] that sum: what the patches get of the whole attention; the rest is on the class token and
            registers.
    """

    maps: torch.Tensor
    share: torch.Tensor


def has_attention(backbone: Any) -> bool:
    """Whether :func:`attention_maps` can look into this encoder."""
    blocks = getattr(backbone, 'layers', ())
    kinds = (MultiheadAttention, NormedAttention)
    return len(blocks) > 0 and all(isinstance(getattr(block, 'attn', None), kinds) for block in blocks)


@torch.no_grad()
def attention_maps(backbone: Any, images: torch.Tensor, block: int | None = None) -> Attention:
    """Attention of the class token to the patches; of all patches on average where there is no class token.

    softmax(q k^T / sqrt(d)) of every head, as the block computes it, with the norms of queries and keys if it has them.

    Args:
        backbone: ViT in eval mode.
        images: [B, C, H, W], normalized.
        block: Number of the block, counted from 1; None for the last one.

    Raises:
        ConfigError: If it is another kind of encoder, or has fewer blocks.
    """
    if not has_attention(backbone):
        raise ConfigError(
            f'{type(backbone).__name__} has no attention that can be drawn; use a plain ViT, or draw patch '
            'features alone'
        )
    depth = len(backbone.layers)
    number = depth if block is None else block
    if not 1 <= number <= depth:
        raise ConfigError(f'block {number} does not exist: the encoder has blocks 1 to {depth}')
    module = backbone.layers[number - 1].attn
    kept: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        token_output(backbone, images)
    finally:
        hook.remove()
    weights = _weights(module, kept[0])  # [B, heads, N, N]
    extra = extra_tokens(backbone)
    asking = weights[:, :, 0] if has_class_token(backbone) else weights[:, :, extra:].mean(2)  # [B, heads, N]
    patches = asking[..., extra:]
    share = patches.sum(-1)
    grid = patch_grid_of(backbone, images, patches.shape[-1])
    return Attention((patches / share[..., None]).unflatten(-1, grid), share)


def _weights(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Attention [B, heads, N, N] of tokens [B, N, D]: each row sums to one."""
    mixed = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = norm_queries(attention, mixed[0], mixed[1])
    return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)


@torch.no_grad()
def patch_features(backbone: Any, images: torch.Tensor) -> torch.Tensor:
    """Features [B, H, W, D] of the patches, after the final norm, or of the places of a map.

    Args:
        backbone: Encoder in eval mode.
        images: [B, C, H, W], normalized.

    Raises:
        ConfigError: If the encoder gives one vector per image.
    """
    output = token_output(backbone, images)
    if output.dim() == 4:
        return output.permute(0, 2, 3, 1).float()
    if output.dim() != 3:
        raise ConfigError(f'{type(backbone).__name__} gives one vector per image; its patches cannot be drawn')
    patches = output[:, extra_tokens(backbone) :]
    return patches.unflatten(1, patch_grid_of(backbone, images, patches.shape[1])).float()


def patch_grid_of(backbone: Any, images: torch.Tensor, count: int) -> tuple[int, int]:
    """Rows and columns of so many patches of images [B, C, H, W], in the proportions of the image."""
    height, width = images.shape[-2:]
    rows = round((count * height / width) ** 0.5)
    if rows == 0 or count % rows:
        raise ConfigError(f'{count} patches do not make a grid of images of {height} x {width} pixels')
    return rows, count // rows


def principal_colors(features: np.ndarray) -> np.ndarray:
    """The first three principal components of patch features as red, green and blue.

    Components are those of all patches of all images together, so equal colors mean similar features; each is scaled
    from its 2nd to its 98th percentile.

    Args:
        features: [B, H, W, D].

    Returns:
        uint8 [B, H, W, 3].
    """
    rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
    rows = rows - rows.mean(0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    axes = vectors[:, ::-1][:, :3]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])  # an eigenvector has no sign
    points = np.zeros((len(rows), 3))
    points[:, : axes.shape[1]] = rows @ axes
    low, high = np.percentile(points, [2, 98], axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8).reshape(*features.shape[:3], 3)
