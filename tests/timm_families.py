"""Families of timm at tiny sizes, each with every objective, and the table of what takes what.

``PYTHONPATH=tests python tests/timm_families.py`` prints the table of ``docs/transfer.md``.
"""

from pathlib import Path
from typing import Any

import torch
from helpers import build, mlp_config

from mmselfsup_graft.checkpoints import save_atomically, traits_of

SIZE, BATCH, OUT = 64, 4, 8
Config = dict[str, Any]
_VIT = {'depth': 2, 'embed_dim': 32, 'num_heads': 2}

#: family -> (architecture, further arguments of timm.create_model)
FAMILIES: dict[str, tuple[str, Config]] = {
    'ViT': ('vit_tiny_patch16_224', {'img_size': SIZE, **_VIT}),
    'ViT, mean of patches': ('vit_base_patch16_siglip_gap_224', {'img_size': SIZE, **_VIT}),
    'DeiT III': ('deit3_small_patch16_224', {'img_size': SIZE, **_VIT}),
    'DINOv2': ('vit_small_patch14_dinov2', {'img_size': SIZE, 'patch_size': 16, **_VIT}),
    'DINOv2, registers': ('vit_small_patch14_reg4_dinov2', {'img_size': SIZE, 'patch_size': 16, **_VIT}),
    'DINOv3': ('vit_small_patch16_dinov3', {'img_size': SIZE, **_VIT}),
    'EVA-02': ('eva02_tiny_patch14_224', {'img_size': SIZE, 'patch_size': 16, **_VIT}),
    'BEiT': ('beit_base_patch16_224', {'img_size': SIZE, **_VIT}),
    'hybrid ViT': ('vit_tiny_r_s16_p8_224', {'img_size': SIZE, **_VIT}),
    'Swin': (
        'swin_tiny_patch4_window7_224',
        {'img_size': SIZE, 'window_size': 2, 'depths': [1, 1, 2, 1], 'embed_dim': 8, 'num_heads': [1, 1, 2, 2]},
    ),
    'Swin V2': (
        'swinv2_tiny_window8_256',
        {'img_size': SIZE, 'window_size': 2, 'depths': [1, 1, 2, 1], 'embed_dim': 8, 'num_heads': [1, 1, 2, 2]},
    ),
    'PVT v2': ('pvt_v2_b0', {'depths': [1, 1, 1, 1], 'embed_dims': [8, 8, 16, 16], 'num_heads': [1, 1, 2, 2]}),
    'ConvNeXt': ('convnext_atto', {'depths': [1, 1, 2, 1], 'dims': [8, 8, 16, 16]}),
    'ConvNeXt V2': ('convnextv2_atto', {'depths': [1, 1, 2, 1], 'dims': [8, 8, 16, 16]}),
    'ResNet': ('resnet10t', {'channels': [8, 8, 16, 16]}),
    'ResNet V2': ('resnetv2_50', {'layers': [1, 1, 1, 1], 'channels': [8, 16, 16, 32], 'stem_chs': 8}),
    'RegNet': ('regnetx_002', {}),
    'EfficientNet': ('efficientnet_b0', {}),
    'MobileNet V3': ('mobilenetv3_small_050', {}),
    'CoAtNet': (
        'coatnet_0_224',
        {'img_size': SIZE, 'depths': [1, 1, 1, 1], 'embed_dim': [8, 8, 32, 32], 'stem_width': [8, 8]},
    ),
    'MaxViT': (
        'maxvit_tiny_tf_224',
        {'img_size': SIZE, 'depths': [1, 1, 1, 1], 'embed_dim': [32, 32, 32, 32], 'stem_width': 8},
    ),
}


def backbone(family: str, **options: Any) -> Config:
    """Config of the backbone."""
    name, sizes = FAMILIES[family]
    return {'type': 'TimmBackbone', 'name': name, 'options': sizes, **options}


def masked(family: str, kind: str, **token: Any) -> Config:
    """Config of an objective with a mask token."""
    encoder = backbone(family, type='MaskedTimmBackbone', **token)
    return {
        'type': kind,
        'mask_patch': 32,
        'backbone': encoder,
        'neck': {'type': 'PixelShuffleNeck'},
        'head': {'type': f'{kind}Head'},
    }


def mae(family: str) -> Config:
    """Config of MAE."""
    neck = {'type': 'MAEDecoder', 'decoder_embed_dim': 16, 'decoder_depth': 1, 'decoder_num_heads': 2}
    head = {
        'type': 'mmpretrain.MAEPretrainHead',
        'loss': {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'},
    }
    return {'type': 'MAE', 'backbone': backbone(family), 'neck': neck, 'head': head}


def contrastive(family: str, kind: str) -> Config:
    """Config of a contrastive objective."""
    width = build(backbone(family)).sizes.channels
    neck = mlp_config(width, 16, OUT, 2)
    if kind == 'MoCoV3':
        head = {'type': 'ContrastiveHead', 'temperature': 0.2, 'predictor': mlp_config(OUT, 16, OUT, 2)}
    else:
        head = {'type': 'VICRegHead'}
    return {'type': kind, 'backbone': backbone(family), 'neck': neck, 'head': head}


OBJECTIVES = {
    'MAE': mae,
    'SimMIM': lambda family: masked(family, 'SimMIM'),
    'A2MIM': lambda family: masked(family, 'A2MIM', mask_layer=1, mask_replace=False, mask_gain=0.1),
    'MoCo v3': lambda family: contrastive(family, 'MoCoV3'),
    'VICReg': lambda family: contrastive(family, 'JointEmbedding'),
}
CONTRASTIVE = ('MoCo v3', 'VICReg')


def takes(family: str, objective: str) -> bool:
    """Whether the family can have the objective: MAE leaves out patches, which needs a ViT with a class token."""
    return objective != 'MAE' or build(backbone(family)).drops_patches


def model_of(family: str, objective: str, seed: int = 0, **options: Any) -> Any:
    """A model with fresh weights, or grafted ones."""
    torch.manual_seed(seed)
    model = build({**OBJECTIVES[objective](family), **options})
    model.init_weights()
    return model


def step(objective: str, model: Any, seed: int = 0) -> torch.Tensor:
    """Loss of one batch, after its backward pass."""
    generator = torch.Generator().manual_seed(seed)
    views = [torch.rand(BATCH, 3, SIZE, SIZE, generator=generator) for _ in range(2)]
    losses = model.loss(views if objective in CONTRASTIVE else views[0])
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    return total.detach()


def save_run(model: Any, path: Path) -> str:
    """Write what a run of the model writes."""
    meta = {'encoder': traits_of(model).as_meta()}
    save_atomically({'state_dict': model.state_dict(), 'meta': meta}, path)
    return str(path)


def table() -> str:
    """The table of the page: family, architecture of timm as an example, objectives."""
    lines = ['| family | for example | ' + ' | '.join(OBJECTIVES) + ' |', '|' + ' --- |' * (2 + len(OBJECTIVES))]
    for family, (name, _) in FAMILIES.items():
        cells = ['yes' if takes(family, objective) else '-' for objective in OBJECTIVES]
        lines.append(f'| {family} | `{name}` | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    from helpers import enter_scope

    enter_scope()
    print(table(), end='')
