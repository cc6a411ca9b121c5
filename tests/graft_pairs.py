"""Every masked and every contrastive objective on every kind of backbone, at tiny sizes, and the table of their pairs.

``python tests/graft_pairs.py`` prints the table of ``configs/layer_grafted/README.md``.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from helpers import build, mae_config, mlp_config, tec_config, vit_config

from mmselfsup_graft.checkpoints import save_atomically

SIZE, BATCH, WIDTH = 16, 4, 32
Config = dict[str, Any]


def _vit(**options: Any) -> Config:
    return vit_config(width=WIDTH, depth=4, img_size=SIZE, **options)


def _beit(**options: Any) -> Config:
    return {**_vit(), 'type': 'SelfSupBEiT', 'layer_scale_init_value': 0.1, **options}


def _resnet(**options: Any) -> Config:
    sizes = {'depth': 18, 'stem_channels': 4, 'base_channels': 4, 'strides': (2, 2, 1, 1)}
    return {'type': 'mmpretrain.ResNet_CIFAR', **sizes, 'norm_cfg': {'type': 'PortableSyncBN'}, **options}


def _convnext(**options: Any) -> Config:
    arch = {'depths': [2, 2], 'channels': [16, WIDTH]}
    return {'type': 'mmpretrain.ConvNeXt', 'arch': arch, 'stem_patch_size': 2, 'out_indices': (1,), **options}


def _swin(**options: Any) -> Config:
    arch = {'embed_dims': 8, 'depths': [1, 1, 2], 'num_heads': [1, 2, 4]}
    sizes = {'img_size': SIZE, 'patch_size': 2, 'window_size': 2, 'out_indices': (2,)}
    return {'type': 'mmpretrain.SwinTransformer', 'arch': arch, **sizes, **options}


#: kind -> backbone of a contrastive objective, of one with a mask token, and whether its feature is a map to be pooled
BACKBONES: dict[str, tuple[Config, Config, bool]] = {
    'ViT': (_vit(), _vit(type='MaskedViT', out_type='featmap'), False),
    'ViT, relative positions': (_beit(out_type='cls_token'), _beit(type='MaskedBEiT'), False),
    'ResNet': (_resnet(), _resnet(type='MaskedResNetCIFAR'), True),
    'ConvNeXt': (_convnext(), _convnext(type='MaskedConvNeXt', gap_before_final_norm=False), False),
    'Swin': (_swin(), _swin(type='MaskedSwin'), True),
}


# ---------------------------------------------------------------- masked
def _masked(kind: str, token: Config) -> Callable[[str], Config | None]:
    def config(backbone: str) -> Config:
        head = {'type': f'{kind}Head'}
        neck = {'type': 'PixelShuffleNeck'}
        encoder = {**BACKBONES[backbone][1], **token}
        return {'type': kind, 'mask_patch': 8, 'backbone': encoder, 'neck': neck, 'head': head}

    return config


def _mae(backbone: str) -> Config | None:
    return mae_config(_vit()) if backbone == 'ViT' else None


def _tec(backbone: str) -> Config | None:
    # the MLP after the class token is only in weights that TEC trained
    return tec_config(_vit(input_adaptor=False)) if backbone == 'ViT' else None


def _masked_tec(backbone: str) -> Config | None:
    base = {**tec_config(_vit())['base_model'], 'topk': 2}
    options = {'base_model': base, 'base_checkpoint': None, 'head': {'type': 'TECHead'}}
    return {'type': 'MaskedTEC', 'backbone': BACKBONES[backbone][1], 'neck': {}, **options}


MASKED: dict[str, Callable[[str], Config | None]] = {
    'MAE': _mae,
    'SimMIM': _masked('SimMIM', {}),
    'A2MIM': _masked('A2MIM', {'mask_layer': 1, 'mask_replace': False, 'mask_gain': 0.1}),
    'TEC': _tec,
    'MaskedTEC': _masked_tec,
}


# ---------------------------------------------------------------- contrastive
def _projector(backbone: str, **options: Any) -> Config:
    return mlp_config(WIDTH, WIDTH, 8, 2, with_avg_pool=BACKBONES[backbone][2], **options)


def _mocov3(backbone: str) -> Config:
    head = {'type': 'ContrastiveHead', 'temperature': 0.2, 'predictor': mlp_config(8, WIDTH, 8, 2)}
    return {'type': 'MoCoV3', 'backbone': BACKBONES[backbone][0], 'neck': _projector(backbone), 'head': head}


def _joint(head: str) -> Callable[[str], Config | None]:
    def config(backbone: str) -> Config:
        neck = _projector(backbone)
        return {'type': 'JointEmbedding', 'backbone': BACKBONES[backbone][0], 'neck': neck, 'head': {'type': head}}

    return config


def _mocov2(backbone: str) -> Config:
    pooled = BACKBONES[backbone][2]
    sizes = {'in_channels': WIDTH, 'hid_channels': WIDTH, 'out_channels': 8}
    neck = {'type': 'mmpretrain.MoCoV2Neck', **sizes, 'with_avg_pool': pooled}
    encoder = BACKBONES[backbone][0]
    return {'type': 'MoCo', 'backbone': encoder, 'neck': neck, 'queue_size': 2 * BATCH, 'bn_groups': 1}


def _swav(backbone: str) -> Config:
    neck = mlp_config(WIDTH, WIDTH, 8, 2, with_last_bn=False)
    head = {'type': 'PrototypeHead', 'num_prototypes': 5}
    return {'type': 'SwAV', 'backbone': BACKBONES[backbone][0], 'neck': neck, 'head': head}


CONTRASTIVE: dict[str, Callable[[str], Config | None]] = {
    'MoCo v3': _mocov3,
    'MoCo v2': _mocov2,
    'SwAV': _swav,
    'SimCLR': _joint('NTXentHead'),
    'VICReg': _joint('VICRegHead'),
}
METHODS = {**MASKED, **CONTRASTIVE}


# ---------------------------------------------------------------- pairs
def pairs() -> list[tuple[str, str, str]]:
    """(kind of backbone, objective of the lower layers, objective of the upper ones), both directions."""
    both = [(m, c) for m in MASKED for c in CONTRASTIVE] + [(c, m) for c in CONTRASTIVE for m in MASKED]
    return [(b, low, up) for b in BACKBONES for low, up in both if METHODS[low](b) and METHODS[up](b)]


def model_of(method: str, backbone: str, seed: int, **options: Any) -> Any:
    """A model with fresh weights, or grafted ones with ``graft``."""
    torch.manual_seed(seed)
    model = build({**deepcopy(METHODS[method](backbone)), **options})
    model.init_weights()
    return model


def step(method: str, model: Any, seed: int = 0) -> torch.Tensor:
    """Loss of one batch, after a step of SGD."""
    generator = torch.Generator().manual_seed(seed)
    views = [torch.rand(BATCH, 3, SIZE, SIZE, generator=generator) for _ in range(2)]
    if method.endswith('TEC'):
        model._base.is_loaded = True
    losses = model.loss(views if method in CONTRASTIVE else views[0])
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3).step()
    return total.detach()


def save(model: Any, path: Path) -> str:
    """Write what a run of the model writes."""
    save_atomically({'state_dict': model.state_dict()}, path)
    return str(path)


def table() -> str:
    """The table of the README: for each objective of the lower layers and each of the upper ones the backbones."""
    lines = [f'| masked \\ contrastive | {" | ".join(CONTRASTIVE)} |', '|' + ' --- |' * (1 + len(CONTRASTIVE))]
    for low in MASKED:
        cells = []
        for up in CONTRASTIVE:
            kinds = [kind for kind in BACKBONES if (kind, low, up) in pairs()]
            cells.append('all' if len(kinds) == len(BACKBONES) else '; '.join(kinds) or '-')
        lines.append(f'| {low} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    print(table(), end='')
