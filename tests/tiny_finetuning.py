"""What tests of fine-tuning share: small models, files to start from, and small data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers import build

from mmselfsup_graft.checkpoints import VIT_TIMM, save_atomically

HIDDEN = 24


def fresh_state(backbone: dict[str, Any], seed: int = 7) -> dict[str, torch.Tensor]:
    """Freshly initialized tensors of a backbone, in our names."""
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


def write_masked(backbone: dict[str, Any], width: int, target: Path) -> dict[str, torch.Tensor]:
    """Write what SimMIM or A2MIM leaves of a BEiT: a final norm, a token and a decoder, no norm of pooled patches.

    Returns the encoder that must come of it: that norm fresh, the rest from the file.
    """
    state = fresh_state(backbone)
    file = {f'backbone.{name}': value for name, value in state.items() if not name.startswith('ln2.')}
    file |= {f'backbone.ln1.{part}': torch.full((width,), 0.5) for part in ('weight', 'bias')}
    file |= {'backbone.mask_token': torch.ones(1, 1, width), 'neck.decoder.0.weight': torch.ones(3, width, 1, 1)}
    save_atomically({'state_dict': file}, target)
    return state


def shrink_classifier(model: dict[str, Any], width: int, depth: int, folder: Path) -> dict[str, torch.Tensor]:
    """Turn the sizes of a classifier down, in place, and start it from a file; returns the file's encoder."""
    model['graft'] = [{'checkpoint': str(folder / 'start.pth')}]
    for word, shrink in _SHRINK.items():
        if word in model['backbone']['type']:
            return shrink(model, width, depth, folder / 'start.pth')
    raise AssertionError(f'no small {model["backbone"]["type"]}')


def _shrink_resnet(model: dict[str, Any], width: int, depth: int, start: Path) -> dict[str, torch.Tensor]:
    model['backbone'].update(depth=18, stem_channels=width // 8, base_channels=width // 8)
    if model.get('frozen_layers'):
        model['frozen_layers'] = 8  # all, as before
    model['head']['in_channels'] = width
    state = fresh_state(model['backbone'])
    for name, value in state.items():
        if name.endswith('bn2.weight'):
            value.fill_(1)  # zero in a fresh mmpretrain ResNet: nothing below would get a gradient
    save_atomically(state, start)
    return state


def _shrink_convnext(model: dict[str, Any], width: int, depth: int, start: Path) -> dict[str, torch.Tensor]:
    channels = [width // 8, width // 4, width // 2, width]
    model['backbone']['drop_path_rate'] = 0.1  # a half may drop a branch for all of so few images
    model['backbone']['arch'] = dict(depths=[1, 1, 2, 1], channels=channels)
    model['backbone'].pop('out_indices', None)  # of the last stage
    model['head']['in_channels'] = width
    state = fresh_state(model['backbone'])
    for name, value in state.items():
        if name.endswith('.gamma'):
            value.fill_(1)  # a fresh branch is all but closed
    save_atomically({'state_dict': {f'backbone.{name}': value for name, value in state.items()}}, start)
    return state


def _shrink_vit(model: dict[str, Any], width: int, depth: int, start: Path) -> dict[str, torch.Tensor]:
    backbone, head = model['backbone'], model['head']
    backbone['arch'] = dict(embed_dims=width, num_layers=depth, num_heads=2, feedforward_channels=2 * width)
    if backbone['img_size'] > 64:
        backbone.update(img_size=32, patch_size=8)
    head['in_channels'] = width
    if head['type'] == 'FirstFCHead':
        head['projector'] = model['graft'][0]
    write = write_masked if 'BEiT' in backbone['type'] else write_contrastive
    return write(backbone, width, start)


_SHRINK: dict[str, Callable[[dict[str, Any], int, int, Path], dict[str, torch.Tensor]]] = {
    'ResNet': _shrink_resnet,
    'ConvNeXt': _shrink_convnext,
    'ViT': _shrink_vit,
    'BEiT': _shrink_vit,
}
