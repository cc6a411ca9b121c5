"""Every algorithm at tiny sizes: configs, models in double precision, inputs, and what a step of them gives."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import reference
import torch
from helpers import (
    build,
    mae_config,
    mlp_config,
    moco_config,
    multi_task_config,
    tec_config,
    vit_config,
    write_base_model,
)
from torch import nn

BATCH = 4


def make_views(count: int, size: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(BATCH, 3, size, size, generator=generator, dtype=torch.float64) for _ in range(count)]


def small_vit(**options: Any) -> dict[str, Any]:
    return vit_config(**{'depth': 2, **options})


def resnet_moco(norm: str, **options: Any) -> dict[str, Any]:
    """MoCo v3 on a small ResNet with batch norm inside."""
    resnet = {'type': 'mmpretrain.ResNet_CIFAR', 'depth': 18, 'stem_channels': 4, 'base_channels': 4}
    resnet.update(zero_init_residual=False, norm_cfg={'type': norm})
    config = moco_config({'arch': {'embed_dims': 32}}, **options)
    return {**config, 'backbone': resnet, 'neck': mlp_config(32, 32, 8, 2, with_avg_pool=True)}


def simclr(norm: str = 'BN1d', head: str = 'NTXentHead', **norm_options: Any) -> dict[str, Any]:
    neck = mlp_config(16, 32, 8, 2, norm_cfg={'type': norm, **norm_options})
    return {'type': 'JointEmbedding', 'backbone': small_vit(), 'neck': neck, 'head': {'type': head}}


def simmim_and_moco() -> dict[str, Any]:
    """SimMIM and MoCo v3, patch embedding frozen, on one ViT with a mask token: the one reads its map of patches."""
    backbone = {**small_vit(stop_grad_patch_embed=True), 'type': 'MaskedViT', 'out_type': 'featmap'}
    neck = {'type': 'PixelShuffleNeck', 'in_channels': 16, 'stride': 4}
    mim = {'type': 'SimMIM', 'mask_patch': 8, 'neck': neck, 'head': {'type': 'SimMIMHead'}}
    contrastive = {key: value for key, value in moco_config().items() if key != 'backbone'}
    contrastive['neck'] = {**contrastive['neck'], 'with_avg_pool': True}
    objectives = {'mim': {'model': mim, 'views': 0}, 'cl': {'model': contrastive, 'views': [1, 2]}}
    return {'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}


def masked_moco(**patches: Any) -> dict[str, Any]:
    """MoCo v3 on masked views, with another patch embedding."""
    return moco_config(small_vit(patch_cfg=patches), view_mask_ratio=0.5)


def masked(kind: str, backbone: dict[str, Any], width: int, stride: int, **head: Any) -> dict[str, Any]:
    """SimMIM or A2MIM."""
    neck = {'type': 'PixelShuffleNeck', 'in_channels': width, 'stride': stride}
    return {'type': kind, 'mask_patch': 8, 'backbone': backbone, 'neck': neck, 'head': {'type': f'{kind}Head', **head}}


def masked_resnet(**options: Any) -> dict[str, Any]:
    return {'type': 'MaskedResNetCIFAR', 'depth': 18, 'stem_channels': 4, 'base_channels': 4, **options}


ADDED = dict(mask_layer=2, mask_replace=False, mask_gain=0.1)  # A2MIM's token
TOKENS = dict(num_registers=2, qk_norm=True, layer_scale_init_value=0.3)
# config and number of views
CASES: dict[str, tuple[Callable[[], dict[str, Any]], int]] = {
    'MAE': (partial(mae_config, small_vit(), decoder_depth=2), 1),
    'MAE, raw pixels, one block': (partial(mae_config, small_vit(), norm_pix=False), 1),
    'MAE without decoder blocks': (partial(mae_config, small_vit(), decoder_depth=0), 1),
    'MAE of other shares': (
        partial(mae_config, small_vit(qkv_bias=False, layer_scale_init_value=0.3), mask_ratio=0.4),
        1,
    ),
    'MoCo v3': (partial(moco_config, small_vit()), 2),
    'MoCo v3, frozen patch embedding': (partial(moco_config, small_vit(stop_grad_patch_embed=True)), 2),
    'MoCo v3, masked views': (partial(moco_config, small_vit(), view_mask_ratio=0.5), 2),
    'MoCo v3, masked views, patches with a norm': (partial(masked_moco, norm_cfg={'type': 'LN'}), 2),
    'MoCo v3, masked views, patches of padded images': (partial(masked_moco, kernel_size=5, stride=5), 2),
    'MoCo v3, masked views, patches with a border': (partial(masked_moco, padding=2), 2),
    'MoCo v3, masked views, overlapping patches': (
        partial(masked_moco, kernel_size=6, stride=4, padding=1, norm_cfg={'type': 'LN'}),
        2,
    ),
    'MoCo v3, layer scale, no bias of attention': (
        partial(moco_config, small_vit(qkv_bias=False, layer_scale_init_value=0.3)),
        2,
    ),
    'MoCo v3, both': (partial(moco_config, small_vit(stop_grad_patch_embed=True), view_mask_ratio=0.5), 2),
    'MoCo v3 on a ViT with a mask token': (
        partial(moco_config, {**small_vit(stop_grad_patch_embed=True), 'type': 'MaskedViT'}),
        2,
    ),
    'MoCo v3, frozen layers': (partial(moco_config, small_vit(), frozen_layers=1), 2),
    'MoCo v3 on a ResNet': (partial(resnet_moco, 'BN'), 2),
    'MoCo v3 on a ResNet with our norm': (partial(resnet_moco, 'PortableSyncBN', frozen_layers=2), 2),
    'SimCLR': (simclr, 2),
    'VICReg': (partial(simclr, head='VICRegHead'), 2),
    'TEC': (partial(tec_config, small_vit(), neck={'decoder_depth': 2}), 1),
    'TEC, one block': (partial(tec_config, small_vit()), 1),
    'TEC, features only': (partial(tec_config, small_vit(), topk=None), 1),
    'multi-task': (partial(multi_task_config, small_vit()), 3),
    'SimMIM and MoCo v3': (simmim_and_moco, 3),
    'MAE, registers and norms of queries': (partial(mae_config, small_vit(**TOKENS)), 1),
    'MoCo v3, registers and norms of queries': (partial(moco_config, small_vit(**TOKENS)), 2),
    'TEC, registers and norms of queries': (partial(tec_config, small_vit(**TOKENS), base=TOKENS), 1),
    'SimMIM': (partial(masked, 'SimMIM', {**small_vit(), 'type': 'MaskedViT', 'out_type': 'featmap'}, 16, 4), 1),
    'SimMIM on a ResNet': (partial(masked, 'SimMIM', masked_resnet(), 32, 8), 1),
    'A2MIM': (partial(masked, 'A2MIM', masked_resnet(**ADDED), 32, 8, fft_weight=0.5, fft_unmask_weight=0.1), 1),
    **reference.cases(),
}


def make_model(config: dict[str, Any], folder: Path, **options: Any) -> Any:
    config = {**config, **options}
    if 'base_model' in config:
        torch.manual_seed(2)
        config['base_checkpoint'] = write_base_model(config, folder / 'base.pth')
    torch.manual_seed(1)
    model = build(config)
    model.init_weights()
    return model.double().train()


def stir(model: nn.Module) -> None:
    """Move what is trained, so that encoders, norms and tokens all differ from their start."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def results_of_step(model: Any, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Losses, gradients, buffers and moving averages after a step, by name."""
    sum(losses.values()).backward()
    parameters = dict(model.named_parameters())
    gradients = {f'gradient of {n}': p.grad for n, p in parameters.items() if p.grad is not None}
    buffers = {f'buffer {n}': b for n, b in model.named_buffers() if b.is_floating_point()}
    counts = {f'count {n}': b for n, b in model.named_buffers() if n.endswith('num_batches_tracked')}
    averages = {f'average {n}': p for n, p in parameters.items() if 'momentum_encoder' in n}
    return {**losses, **gradients, **buffers, **counts, **averages}
