"""Encoders of whole A2MIM models, out of their configs, in the libraries they go to: no tensor amiss, same features."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from helpers import build
from torch import nn

from mmselfsup_graft.checkpoints import convert, resize_position_table, resize_relative_table
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.targets.target_check import build_target_model, check_target_model

CONFIGS = Path(__file__).parents[2] / 'configs' / 'a2mim'
RESNET = 'a2mim_resnet50_8xb256-coslr-300e_in1k'
CONVNEXT = 'a2mim_convnext-tiny_8xb256-amp-coslr-300e_in1k'
VIT = 'a2mim_vit-base-p16_8xb128-steplr-800e_in1k'


def pre_trained(name: str, **backbone: Any) -> Any:
    """The model of a config, in eval mode, with weights that are none of those it would start from."""
    torch.manual_seed(0)
    config = load_config(CONFIGS / f'{name}.py').model
    config.backbone.update(backbone)
    model = build(config)
    for key, value in model.backbone.state_dict().items():
        if value.is_floating_point():
            moved = 0.5 + torch.rand_like(value) if 'var' in key or value.ndim == 1 else 0.05 * torch.randn_like(value)
            value.copy_(moved)
    model.eval()
    return model


def exported(model: nn.Module, target: str, **options: Any) -> dict[str, torch.Tensor]:
    """Tensors for the target, which must be no more and no less than its own model has."""
    done = convert({'state_dict': model.state_dict()}, 'a2mim.pth', target, **options)
    assert check_target_model(done).good
    assert not [name for name in done.state if 'mask' in name or 'decoder' in name]
    return done.state


IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('library', ['torchvision', 'timm'])
@torch.no_grad()
def test_resnet_50(library: str) -> None:
    model = pre_trained(RESNET)
    built: Any = torchvision.models.resnet50() if library == 'torchvision' else timm.create_model('resnet50')
    missing, unexpected = built.load_state_dict(exported(model, library), strict=False)
    assert (sorted(missing), unexpected) == (['fc.bias', 'fc.weight'], [])
    built.double().eval()  # convolutions of another memory format round otherwise
    stem = built.maxpool(torch.relu(built.bn1(built.conv1(IMAGE.double()))))
    found = built.layer4(built.layer3(built.layer2(built.layer1(stem))))
    torch.testing.assert_close(found, model.double().backbone(IMAGE.double())[-1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize('library', ['torchvision', 'timm'])
@torch.no_grad()
def test_convnext_tiny(library: str) -> None:
    model = pre_trained(CONVNEXT)
    built: Any = torchvision.models.convnext_tiny() if library == 'torchvision' else timm.create_model('convnext_tiny')
    missing, unexpected = built.load_state_dict(exported(model, library), strict=False)
    head = {'torchvision': ['classifier.2.bias', 'classifier.2.weight'], 'timm': ['head.fc.bias', 'head.fc.weight']}
    assert (sorted(missing), unexpected) == (head[library], [])
    built.eval()
    found = built.features(IMAGE) if library == 'torchvision' else built.stages(built.stem(IMAGE))
    # both put the last norm behind their pooling, pre-training puts it on the map
    norm = model.backbone.norm3
    torch.testing.assert_close(norm(found), model.backbone(IMAGE)[-1], rtol=1e-3, atol=1e-3)


def load(built: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Everything but what a BEiT computes from its grid."""
    bare = {name.removeprefix('backbone.'): value for name, value in state.items()}
    missing, unexpected = built.load_state_dict(bare, strict=False)
    assert not unexpected
    assert all(name.endswith('relative_position_index') for name in missing)
    built.eval()


@torch.no_grad()
def test_vit_in_mmpretrain_at_another_size() -> None:
    small = dict(arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48), img_size=64)
    model = pre_trained(VIT, **small)
    same = exported(model, 'mmpretrain')
    plain = dict(type='mmpretrain.BEiTViT', patch_size=16, use_abs_pos_emb=True, out_type='featmap', final_norm=True)
    built = build({**plain, **small})
    load(built, same)
    torch.testing.assert_close(built(IMAGE)[-1], model.backbone(IMAGE)[-1])

    larger = exported(model, 'mmpretrain', img_size=(96, 96))
    larger = {name.removeprefix('backbone.'): value for name, value in larger.items()}
    state = model.backbone.state_dict()
    for block in range(2):
        name = f'layers.{block}.attn.relative_position_bias_table'
        torch.testing.assert_close(larger[name], resize_relative_table(state[name], (6, 6), extra=3))
    torch.testing.assert_close(larger['pos_embed'], resize_position_table(state['pos_embed'], (6, 6)))
    built = build({**plain, **small, 'img_size': 96})
    load(built, larger)
    assert built(torch.randn(1, 3, 96, 96))[-1].shape == (1, 24, 6, 6)
    done = convert({'state_dict': model.state_dict()}, 'a2mim.pth', 'mmpretrain', img_size=(96, 96))
    assert check_target_model(done).good
    assert build_target_model(done, 3).patch_resolution == (6, 6)
