"""Tiny models of timm, torchvision and mmpretrain through the converter: equal features, or a refusal that says why."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build
from torch import nn

from mmselfsup_graft.checkpoints import convert, read_checkpoint
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file
from mmselfsup_graft.libraries.scopes import register_all_modules

timm = pytest.importorskip('timm')
SIZES = {'depth': 2, 'embed_dim': 64, 'num_heads': 1, 'num_classes': 0, 'img_size': 16, 'patch_size': 4}


@pytest.fixture(scope='module', autouse=True)
def registered() -> None:
    register_all_modules()


def made(name: str, **sizes: Any) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(name, **(sizes or SIZES)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return model


def converted(model: nn.Module, folder: Path, target: str = 'mmpretrain') -> tuple[Any, str]:
    """The model of the printed line, filled from the file that it names, and what was printed."""
    torch.save(model.state_dict(), folder / 'in.pth')
    text = convert_file(folder / 'in.pth', folder / 'out.pth', ConvertOptions(target)).text
    found = re.search(r'use: backbone=(dict\(.*\))', text)
    assert found
    config = eval(found[1])
    config.pop('init_cfg', None)
    if 'arch' in config and 'num_layers' in config['arch'] and config.get('out_type') != 'avg_featmap':
        config['out_type'] = 'raw'
    built = build(config)
    built.load_state_dict(read_checkpoint(folder / 'out.pth')['state_dict'])
    built.eval()
    return built, text


@pytest.mark.parametrize(
    'name',
    [
        'vit_small_patch14_reg4_dinov2', 'vit_small_patch14_dinov2', 'deit3_small_patch16_224',
        'vit_medium_patch16_gap_240', 'vit_base_patch16_clip_224',
    ],
)  # fmt: skip
@torch.no_grad()
def test_features_of_transformers(name: str, tmp_path: Path) -> None:
    model, x = made(name), torch.randn(2, 3, 16, 16)
    built, text = converted(model, tmp_path)
    torch.testing.assert_close(built(x)[-1], model.forward_features(x), rtol=0, atol=1e-4)
    assert ('QuickGELU' in text) == ('clip' in name)  # which no tensor tells


@pytest.mark.parametrize(
    ('name', 'told'),
    [
        ('deit_tiny_distilled_patch16_224', 'distillation token'),
        ('vit_relpos_small_patch16_224', r'attn\.rel_pos'),
        ('vit_srelpos_small_patch16_224', r'rel_pos'),
        ('vit_base_patch16_siglip_224', r'attn_pool\.latent'),
        ('cait_xxs24_224', r'attn\.proj_l'),
        ('vit_little_patch16_reg4_gap_256', 'without class token'),
    ],
)
def test_transformers_without_a_place(name: str, told: str, tmp_path: Path) -> None:
    torch.save(made(name).state_dict(), tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match=told):
        convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', ConvertOptions('mmpretrain'))
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('name', ['resnet50d', 'seresnet50', 'resnet50_gn'])
def test_resnets_without_a_place(name: str, tmp_path: Path) -> None:
    torch.save(timm.create_model(name, num_classes=0).state_dict(), tmp_path / 'in.pth')
    with pytest.raises(CheckpointError, match=r'conv1\.0\.weight|layer1\.0\.se\.fc1|running_mean'):
        convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', ConvertOptions('mmpretrain'))


@torch.no_grad()
def test_wide_and_grouped_resnets(tmp_path: Path) -> None:
    import torchvision

    x = torch.randn(2, 3, 32, 32)
    for kind in ({'base_width': 128}, {'base_width': 4, 'cardinality': 32}):
        torch.manual_seed(0)
        block = timm.models.resnet.Bottleneck
        model = timm.models.resnet.ResNet(block, (3, 4, 6, 3), num_classes=0, **kind).eval()
        torch.save(model.state_dict(), tmp_path / 'in.pth')
        for target in ('timm', 'torchvision'):
            options = ConvertOptions(target, overwrite=True)
            text = convert_file(tmp_path / 'in.pth', tmp_path / 'out.pth', options).text
            lines = [line.strip() for line in text[text.index('use: ') + 5 :].split('\n')]
            scope: dict[str, Any] = {'timm': timm, 'torchvision': torchvision, 'torch': torch, 'functools': functools}
            exec('\n'.join(line for line in lines if line.startswith('model')), scope)
            torch.testing.assert_close(scope['model'].eval()(x), model(x), rtol=0, atol=1e-4)
    wide = timm.models.resnet.ResNet(timm.models.resnet.Bottleneck, (3, 4, 6, 3), num_classes=0, base_width=128).eval()
    (tmp_path / 'x').mkdir()
    built, _ = converted(wide, tmp_path / 'x')
    torch.testing.assert_close(built(x)[-1], wide.forward_features(x), rtol=0, atol=1e-4)
    with pytest.raises(CheckpointError, match='use --to mmpretrain'):
        convert_file(tmp_path / 'x' / 'in.pth', tmp_path / 'det.pth', ConvertOptions('mmdet'))


def test_moco_v3_small_has_twelve_heads() -> None:
    for width, heads in ((384, 12), (64, 0)):
        model = made('vit_small_patch16_224', **{**SIZES, 'embed_dim': width})
        state = {f'module.base_encoder.{name}': value for name, value in model.state_dict().items()}
        assert convert({'state_dict': state}, 'file', 'timm').architecture.num_heads == heads


def test_our_vit_needs_a_class_token() -> None:
    arch = {'embed_dims': 64, 'num_layers': 1, 'num_heads': 1, 'feedforward_channels': 64}
    with pytest.raises(ConfigError, match='needs a class token'):
        build({'type': 'SelfSupViT', 'arch': arch, 'img_size': 16, 'patch_size': 4, 'with_cls_token': False})


@torch.no_grad()
def test_swin_of_two_stages_with_absolute_positions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    arch = {'embed_dims': 16, 'depths': [1, 1], 'num_heads': [1, 2]}
    config = {'type': 'mmpretrain.SwinTransformer', 'arch': arch, 'img_size': 32, 'window_size': 2, 'out_indices': (1,)}
    model = build({**config, 'use_abs_pos_embed': True})
    nn.init.normal_(model.absolute_pos_embed)
    model.eval()
    built, _ = converted(model, tmp_path)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(built(x)[-1], model(x)[-1], rtol=0, atol=1e-5)
