"""TEC for an encoder with a mask token: targets averaged over the area of each position of its map."""

from fractions import Fraction
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from helpers import vit_config

from . import simmim, tec

Grid = tuple[int, int]


def resnet(**options: Any) -> dict[str, Any]:
    """A small ResNet of 32 channels in its last map, of stride 8 unless ``strides`` says otherwise."""
    sizes = {'depth': 18, 'stem_channels': 4, 'base_channels': 4, 'zero_init_residual': False}
    return {'type': 'MaskedResNetCIFAR', **sizes, **options}


def config(
    backbone: dict[str, Any] | None = None, topk: int | None = 3, base: dict[str, Any] | None = None, **kwargs: Any
) -> dict[str, Any]:
    """A small model that learns from a ViT of 4 x 4 patches unless ``base`` says otherwise."""
    sizes = {key: value for key, value in vit_config().items() if key in ('arch', 'img_size', 'patch_size')}
    return {
        'type': 'MaskedTEC',
        'base_model': {'type': 'TargetViT', **sizes, 'topk': topk, **(base or {})},
        'base_checkpoint': None,
        'backbone': backbone or resnet(),
        'neck': {'type': 'TECMapNeck', 'hidden_channels': 24},
        'head': {'type': 'TECHead', 'tau': 1.8},
        **kwargs,
    }


VIT = {**vit_config(depth=2), 'type': 'MaskedViT', 'out_type': 'featmap'}
# maps of 2 x 2, 8 x 8 and 4 x 4 positions on 16 px
CASES = {
    'MaskedTEC': (config, 1),
    'MaskedTEC, a map finer than the patches': (partial(config, resnet(strides=(1, 2, 1, 1))), 1),
    'MaskedTEC, blocks of several positions': (partial(config, resnet(strides=(1, 2, 2, 1)), mask_patch=8), 1),
    'MaskedTEC, features only': (partial(config, topk=None), 1),
    'MaskedTEC on a ViT': (partial(config, VIT), 1),
}


def overlap(a: tuple[int, int], b: tuple[int, int], first: Grid, second: Grid) -> Fraction:
    """Share of the image that cell ``a`` of the first grid and cell ``b`` of the second have in common."""
    area = Fraction(1)
    for i, j, n, m in zip(a, b, first, second):
        area *= max(Fraction(0), min(Fraction(i + 1, n), Fraction(j + 1, m)) - max(Fraction(i, n), Fraction(j, m)))
    return area


def cells(grid: Grid) -> list[tuple[int, int]]:
    """Row and column of every cell, row by row."""
    return [(row, column) for row in range(grid[0]) for column in range(grid[1])]


def mean_over_area(values: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """[B, L, C] on one grid -> [B, M, C] on another, each the mean over the area of its cell."""
    found = []
    for m in cells(target):
        terms = [float(overlap(k, m, source, target)) * values[:, i] for i, k in enumerate(cells(source))]
        found.append(torch.stack(terms).sum(0) * target[0] * target[1])
    return torch.stack(found, 1)


def spread_over_area(shares: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
    """[..., L] shares that sum to 1 -> [..., M]: each patch spreads its share evenly over its area."""
    found = []
    for m in cells(target):
        parts = [float(overlap(k, m, source, target) * source[0] * source[1]) for k in cells(source)]
        found.append(sum(part * shares[..., i] for i, part in enumerate(parts)))
    return torch.stack(found, -1)


def predict(model: Any, x: torch.Tensor, rows: torch.Tensor | None, patches: Grid) -> tuple[torch.Tensor, Any]:
    """Features [B, M, C] of all positions of a map [B, D, h, w], and logits [B, 1 + K, H, M] of the rows or None."""
    neck, grid = model.neck, tuple(x.shape[2:])
    adapted = tec.adapt(neck.adaptor, x.flatten(2).transpose(1, 2))
    if rows is None:
        return neck.feature(adapted), None
    over_patches = mean_over_area(adapted, grid, patches)  # [B, L, D]
    chosen = torch.stack([one[numbers] for one, numbers in zip(over_patches, rows)])
    asking = torch.cat([adapted.mean(1, keepdim=True), chosen], 1)
    width = neck.feature.out_features
    query = neck.attention(asking)[..., :width].unflatten(-1, (neck.target_num_heads, -1))
    key = neck.attention(adapted)[..., width:].unflatten(-1, (neck.target_num_heads, -1))
    logits = torch.einsum('bqhc,bmhc->bqhm', query, key)
    return neck.feature(adapted), logits * neck.attention_scale


def losses(model: Any, images: torch.Tensor, noise: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """``loss_feature`` on masked positions and, if there are rows, ``loss_attention``."""
    wanted = tec.targets(model.base_model, images)
    mask = simmim.draw(model, images, noise)
    x = simmim.features(model.backbone, images, mask)
    grid, patches = tuple(x.shape[2:]), tuple(model.base_model.patch_resolution)
    feature, logits = predict(model, x, wanted.rows, patches)
    hidden = simmim.enlarge(mask, grid[0]).flatten(1)  # [B, M]
    head, dtype = model.head, images.dtype
    with torch.autocast(images.device.type, enabled=False):
        target = mean_over_area(wanted.feature.to(dtype), patches, grid)
        found = {'loss_feature': head.feature_weight * tec.feature_loss(feature.to(dtype), target, hidden)}
        if logits is not None:
            shares = spread_over_area(F.softmax(wanted.attention.to(dtype) / head.tau, -1), patches, grid)
            cross_entropy = -(shares * logits.to(dtype).log_softmax(-1)).sum(-1).mean()
            found['loss_attention'] = head.attention_weight * cross_entropy
    return found
