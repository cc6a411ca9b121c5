"""What tests of fine-tuning share: small models, files to start from, and small data."""

from pathlib import Path
from typing import Any

import torch
from helpers import build

from mmselfsup_graft.checkpoints import VIT_TIMM, save_atomically

HIDDEN = 24


def fresh_state(backbone: dict[str, Any], seed: int = 7) -> dict[str, torch.Tensor]:
    """Freshly initialised tensors of a backbone, in our names."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = build({**backbone})
        encoder._dump_init_info = lambda *_: None
        encoder.init_weights()
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def write_contrastive(backbone: dict[str, Any], width: int, target: Path) -> dict[str, torch.Tensor]:
    """Write a file laid out as MoCo v3's with a ViT of this config in it; returns its encoder in our names."""
    state = fresh_state(backbone)
    prefix = 'module.base_encoder.'
    file = {prefix + VIT_TIMM.from_canonical(name): value for name, value in state.items()}
    generator = torch.Generator().manual_seed(1)
    file[f'{prefix}head.0.weight'] = torch.randn(HIDDEN, width, generator=generator)
    for part, shift in {'weight': 1.0, 'bias': 0.0, 'running_mean': 0.5, 'running_var': 2.0}.items():
        file[f'{prefix}head.1.{part}'] = torch.rand(HIDDEN, generator=generator) + shift
    save_atomically({'state_dict': file}, target)
    return state


def shrink_classifier(model: dict[str, Any], width: int, depth: int, folder: Path) -> dict[str, torch.Tensor]:
    """Turn the sizes of a classifier down, in place, and start it from a file; returns the file's encoder."""
    backbone, head, source = model['backbone'], model['head'], {'checkpoint': str(folder / 'start.pth')}
    model['graft'] = [source]
    if backbone['type'] == 'mmpretrain.ResNet':
        state = fresh_state(backbone)
        for name, value in state.items():
            if name.endswith('bn2.weight'):
                value.fill_(1)  # zero in a fresh mmpretrain ResNet: nothing below would get a gradient
        save_atomically(state, folder / 'start.pth')
        return state
    backbone['arch'] = dict(embed_dims=width, num_layers=depth, num_heads=2, feedforward_channels=2 * width)
    if backbone['img_size'] > 64:
        backbone.update(img_size=32, patch_size=8)
    head['in_channels'] = width
    if head['type'] == 'FirstFCHead':
        head['projector'] = source
    return write_contrastive(backbone, width, folder / 'start.pth')
