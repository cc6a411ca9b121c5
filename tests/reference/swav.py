"""SwAV (Caron et al., arXiv 2006.09882), equations 1 to 5, one crop and one pair of crops after the other."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from helpers import mae_config, mlp_config, vit_config

from . import vit


def config(backbone: dict[str, Any] | None = None, width: int = 16, **head: Any) -> dict[str, Any]:
    """A small SwAV: projector of two layers without batch norm at its end, 7 prototypes."""
    backbone = backbone or vit_config(depth=2)
    last = {'with_bias': True, 'with_last_bias': True, 'with_last_bn': False, 'with_last_bn_affine': True}
    neck = mlp_config(width, 24, 8, 2, **last)
    return {'type': 'SwAV', 'backbone': backbone, 'neck': neck, 'head': prototypes(**head)}


def prototypes(**options: Any) -> dict[str, Any]:
    """Config of the head."""
    return {'type': 'PrototypeHead', 'num_prototypes': 7, **options}


def resnet(norm: str = 'PortableSyncBN', **head: Any) -> dict[str, Any]:
    """The same on a small ResNet with batch norm inside."""
    options = {'stem_channels': 4, 'base_channels': 4, 'zero_init_residual': False, 'norm_cfg': {'type': norm}}
    return config({'type': 'mmpretrain.ResNet_CIFAR', 'depth': 18, **options}, 32, **head)


def one_linear() -> dict[str, Any]:
    """Without a hidden layer."""
    neck = {'type': 'mmpretrain.LinearNeck', 'in_channels': 16, 'out_channels': 8, 'gap_dim': 0, 'norm_cfg': None}
    return {**config(), 'neck': neck}


def with_mae() -> dict[str, Any]:
    """SwAV and MAE on one ViT."""
    backbone, objectives = vit_config(depth=2, final_norm=True), {}
    for name, model, views in (('mim', mae_config(backbone), 0), ('swav', config(), [1, 2, 3])):
        objectives[name] = {'model': {k: v for k, v in model.items() if k != 'backbone'}, 'views': views}
    return {'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}


CASES = {
    'SwAV': (config, 2),
    'SwAV, four crops, other settings': (partial(config, temperature=0.2, epsilon=0.1, iterations=2), 4),
    'SwAV, other assigned crops': (partial(config, assigned=[2, 0, 1]), 3),
    'SwAV, a queue that fills': (partial(config, queue_length=10), 3),
    'SwAV, one linear layer': (one_linear, 3),
    'SwAV, frozen layers': (lambda: {**config(), 'frozen_layers': 1}, 3),
    'SwAV on a ResNet': (resnet, 3),
    'SwAV on a ResNet without joined norms': (partial(resnet, 'BN'), 3),
    'SwAV and MAE': (with_mae, 4),
}


@torch.no_grad()
def unit_rows(matrix: torch.Tensor) -> torch.Tensor:
    """Every row divided by its norm."""
    return torch.stack([row / row.norm() for row in matrix])


@torch.no_grad()
def codes_of(scores: torch.Tensor, eps: float, iterations: int) -> torch.Tensor:
    """Sinkhorn's iterations as published, on the matrix [K, N] itself."""
    q = torch.exp(scores / eps).t()
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / q.shape[0]  # every prototype has the same share
        q = q / q.sum(0, keepdim=True) / q.shape[1]  # every sample, too
    return (q * q.shape[1]).t()


def projections(model: Any, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """z of every crop [B, D], of unit length; consecutive crops of one size are one batch."""
    features = []
    for _, run in groupby(views, key=lambda view: view.shape[2:]):
        feature = vit.feature(model.backbone, torch.cat(list(run)))
        features += [feature.mean((2, 3)) if feature.dim() == 4 else feature]
    z = model.neck((torch.cat(features),))[0]
    return list((z / z.norm(dim=1, keepdim=True)).split(len(views[0])))


def losses(model: Any, views: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Mean over assigned crops of the mean over all others of the cross entropy."""
    head = model.head
    if model.training and head.update_due:
        head.prototypes.weight.data.copy_(unit_rows(head.prototypes.weight.data))
    weight = head.prototypes.weight if model.training else unit_rows(head.prototypes.weight)
    z, batch = projections(model, views), len(views[0])
    total, queues, predictions = [], [], []
    for number, crop in enumerate(head.assigned):
        rows = z[crop].detach()
        used = head.queue_length // batch * batch
        if used and head.queued >= used:
            rows = torch.cat([head.queue[number, :used], rows])
        codes = codes_of(rows @ weight.detach().t(), head.epsilon, head.iterations)[-batch:]
        terms = []
        for other, feature in enumerate(z):
            if other != crop:
                predicted = torch.log_softmax(feature @ weight.t() / head.temperature, 1)
                terms.append(torch.stack([-(q * p).sum() for q, p in zip(codes, predicted)]).mean())
        total.append(torch.stack(terms).mean())
        if used:
            queues.append(torch.cat([z[crop].detach(), head.queue[number]])[: head.queue_length])
    if queues and model.training:
        head.queue.copy_(torch.stack(queues))
        head.queued = min(head.queued + batch, head.queue_length)
    for feature in z:
        predictions += [torch.softmax(row @ weight.t() / head.temperature, 0).detach() for row in feature]
    mean = torch.stack(predictions).mean(0)
    limit = torch.tensor(float(len(mean)), dtype=mean.dtype).log()
    return {'loss': torch.stack(total).mean(), 'entropy': -(mean * mean.log()).sum(), 'entropy_max': limit}
