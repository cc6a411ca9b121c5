"""MoCo (He et al., arXiv 1911.05722), algorithm 1, with shuffled batch norm group by group and query by query."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from helpers import mae_config, mlp_config, vit_config

from mmselfsup_graft.utils.shared_random import shared_generator

from . import vit


def config(backbone: dict[str, Any] | None = None, neck: dict[str, Any] | None = None, **options: Any) -> Any:
    """A small MoCo v2 on a ViT, where nothing is shuffled."""
    backbone = backbone or vit_config(depth=2)
    neck = neck or {'type': 'mmpretrain.MoCoV2Neck', 'hid_channels': 16, 'out_channels': 8, 'with_avg_pool': False}
    return {'type': 'MoCo', 'base_momentum': 0.9, 'queue_size': 16, 'backbone': backbone, 'neck': neck, **options}


def resnet(norm: str = 'BN', version: int = 2, **options: Any) -> Any:
    """A small MoCo v1 or v2 on a ResNet."""
    sizes = {'depth': 18, 'stem_channels': 4, 'base_channels': 4, 'zero_init_residual': False}
    backbone = {'type': 'mmpretrain.ResNet_CIFAR', 'norm_cfg': {'type': norm}, **sizes}
    neck = {'type': 'mmpretrain.MoCoV2Neck', 'hid_channels': 32, 'out_channels': 8}
    if version == 1:
        neck = {'type': 'mmpretrain.LinearNeck', 'out_channels': 8, 'gap_dim': 2, 'norm_cfg': None}
        options['temperature'] = 0.07
    return config(backbone, neck, **options)


def with_mae() -> dict[str, Any]:
    """MoCo and MAE on one ViT, the projector of MoCo with batch norm."""
    backbone, objectives = vit_config(depth=2, final_norm=True), {}
    moco = config(neck=mlp_config(16, 32, 8, 2, norm_cfg={'type': 'BN1d'}))
    for name, model, views in (('mim', mae_config(backbone), 0), ('cl', moco, [1, 2])):
        objectives[name] = {'model': {k: v for k, v in model.items() if k != 'backbone'}, 'views': views}
    return {'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}


CASES = {
    'MoCo v2': (config, 2),
    'MoCo v2 on a ResNet': (resnet, 2),
    'MoCo v2 on a ResNet in groups': (partial(resnet, bn_groups=2), 2),
    'MoCo v1 on a ResNet in groups': (partial(resnet, version=1, bn_groups=2), 2),
    'MoCo v2 on a ResNet in groups, frozen layers': (partial(resnet, bn_groups=2, frozen_layers=3), 2),
    'MoCo v2 on a ResNet in groups with joined norms': (partial(resnet, 'PortableSyncBN', bn_groups=2), 2),
    'MoCo and MAE': (with_mae, 3),
}


@torch.no_grad()
def average(model: Any) -> None:
    """``theta_k = m theta_k + (1 - m) theta_q``."""
    follower = model.momentum_encoder
    for old, new in ((follower.backbone, model.backbone), (follower.neck, model.neck)):
        for theta_k, theta_q in zip(old.parameters(), new.parameters(), strict=True):
            theta_k.copy_(model.momentum * theta_k + (1 - model.momentum) * theta_q)


def encoded(backbone: Any, neck: Any, images: torch.Tensor, groups: int) -> torch.Tensor:
    """Projections of length 1, [B, D], one group after the other."""
    found = [neck((vit.feature(backbone, part),))[0] for part in images.split(len(images) // groups)]
    with torch.autocast(images.device.type, enabled=False):
        rows = [row if row.dtype == torch.float64 else row.float() for row in torch.cat(found)]
        return torch.stack([row / row.norm() for row in rows])


@torch.no_grad()
def keys(model: Any, images: torch.Tensor, groups: int, order: torch.Tensor | None) -> torch.Tensor:
    """Keys [B, D]; their images were encoded in another order, if there are groups."""
    if model.training and model.update_due:
        average(model)
    follower = model.momentum_encoder
    if order is None:
        count = len(images)
        order = torch.randperm(count, generator=shared_generator()) if groups > 1 else torch.arange(count)
    shuffled = encoded(follower.backbone, follower.neck, images[order], groups)
    return torch.stack([shuffled[int((order == number).nonzero())] for number in range(len(images))])


@torch.no_grad()
def enqueue(model: Any, new: torch.Tensor) -> None:
    """Put keys into the queue, one after the other."""
    queue = model.key_queue
    for key in new:
        position = int(queue.queue_ptr)
        queue.queue[:, position] = key
        queue.queue_ptr[0] = queue.position = (position + 1) % queue.queue.shape[1]


def losses(model: Any, views: Sequence[torch.Tensor], order: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """``-log exp(q k / t) / (exp(q k / t) + sum_i exp(q k_i / t))``, and how often the right key is the nearest."""
    groups = model.bn_groups or 1
    queries = encoded(model.backbone, model.neck, views[0], groups)
    own, old = keys(model, views[1], groups, order), model.key_queue.queue.t().clone()
    terms, right = [], []
    for q, k in zip(queries, own):
        similar = torch.stack([q.dot(k), *(q.dot(each) for each in old)])
        terms.append(-torch.log_softmax(similar / model.temperature, 0)[0])
        right.append(float(similar.argmax() == 0))
    if model.training:
        enqueue(model, own)
    loss = torch.stack(terms).mean()
    return {'loss': loss, 'accuracy': 100 * torch.tensor(right, dtype=loss.dtype, device=loss.device).mean()}
