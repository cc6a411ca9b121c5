"""BYOL (Grill et al., arXiv 2006.07733), equations 1 and 2, one view and one image after the other."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from helpers import mae_config, mlp_config, vit_config

from . import vit


def config(backbone: dict[str, Any] | None = None, width: int = 16, **neck: Any) -> dict[str, Any]:
    """A small BYOL: projector and predictor of two layers, without batch norm at their ends."""
    last = {'with_last_bn': False, 'with_last_bn_affine': True}
    backbone = backbone or vit_config(depth=2, stop_grad_patch_embed=True)
    projector, predictor = mlp_config(width, 32, 8, 2, **last, **neck), mlp_config(8, 32, 8, 2, **last)
    return {'type': 'BYOL', 'base_momentum': 0.9, 'backbone': backbone, 'neck': projector, 'head': predictor}


def resnet(**options: Any) -> dict[str, Any]:
    """The same on a small ResNet with batch norm inside."""
    options = {'stem_channels': 4, 'base_channels': 4, 'zero_init_residual': False, **options}
    backbone = {'type': 'mmpretrain.ResNet_CIFAR', 'depth': 18, 'norm_cfg': {'type': 'PortableSyncBN'}, **options}
    return config(backbone, 32, with_avg_pool=True)


def with_mae() -> dict[str, Any]:
    """BYOL and MAE on one ViT."""
    backbone, objectives = vit_config(depth=2, final_norm=True), {}
    for name, model, views in (('mim', mae_config(backbone), 0), ('byol', config(), [1, 2])):
        objectives[name] = {'model': {k: v for k, v in model.items() if k != 'backbone'}, 'views': views}
    return {'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}


CASES = {
    'BYOL': (config, 2),
    'BYOL, frozen layers': (lambda: {**config(), 'frozen_layers': 1}, 2),
    'BYOL on a ResNet': (resnet, 2),
    'BYOL on a ResNet without joined norms': (partial(resnet, norm_cfg={'type': 'BN'}), 2),
    'BYOL and MAE': (with_mae, 3),
}


@torch.no_grad()
def average(model: Any) -> None:
    """``xi = tau xi + (1 - tau) theta``."""
    target = model.momentum_encoder
    for old, new in ((target.backbone, model.backbone), (target.neck, model.neck)):
        for xi, theta in zip(old.parameters(), new.parameters(), strict=True):
            xi.copy_(model.momentum * xi + (1 - model.momentum) * theta)


def squared_distance(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``|q / |q| - z / |z||^2``, mean over the images."""
    terms = [(q / q.norm() - z / z.norm()).square().sum() for q, z in zip(prediction, target)]
    return torch.stack(terms).mean()


def losses(model: Any, views: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The distance of view 1's prediction to view 2's target, and the other way round."""
    predictions = [model.head(model.neck((vit.feature(model.backbone, view),)))[0] for view in views]
    if model.training and model.update_due:
        average(model)
    target = model.momentum_encoder
    with torch.no_grad():
        targets = [target.neck((vit.feature(target.backbone, view),))[0] for view in views]
    return {'loss': squared_distance(predictions[0], targets[1]) + squared_distance(predictions[1], targets[0])}
