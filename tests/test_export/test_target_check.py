"""Converted backbones in the libraries they are for: every tensor fits, and the features are the same."""

from collections.abc import Callable

import pytest
import torch
from helpers import build, randomized, tec_config, vit_config
from torch import nn

from mmselfsup_graft.checkpoints import convert
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.libraries.scopes import register_all_modules
from mmselfsup_graft.targets.target_check import Fit, NoTargetModel, build_target_model, check_target_model

HEADS = 3
_ARCH = {'embed_dims': 24, 'num_layers': 3, 'num_heads': HEADS, 'feedforward_channels': 48}
VIT = {'type': 'mmpretrain.VisionTransformer', 'arch': _ARCH, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw'}
RESNET = {'type': 'mmpretrain.ResNet', 'depth': 18}
CONVNEXT = {'type': 'mmpretrain.ConvNeXt', 'arch': {'depths': [1, 2, 1, 1], 'channels': [8, 16, 24, 32]}}


@pytest.fixture(scope='module', autouse=True)
def registered() -> None:
    register_all_modules()


def loaded(model: nn.Module, target: str, heads: int | None = None) -> nn.Module:
    """The target's model with the converted weights."""
    done = convert({'state_dict': model.state_dict()}, 'file', target)
    assert check_target_model(done).good
    built = build_target_model(done, heads)
    missing, unexpected = built.load_state_dict(done.state, strict=False)
    assert not unexpected
    assert not missing
    built.eval()
    return built


READ: dict[str, Callable[[nn.Module, torch.Tensor], torch.Tensor]] = {
    'mmpretrain': lambda model, x: model(x)[-1],
    'timm': lambda model, x: model.forward_features(x),
    'hf': lambda model, x: model(x).last_hidden_state,
}


@pytest.mark.parametrize('target', READ)
def test_vit_gives_the_same_tokens(target: str) -> None:
    model = randomized(VIT)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)[-1]  # [2, 17, 24]
        actual = READ[target](loaded(model, target, HEADS), x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize('target', READ)
def test_grey_images(target: str) -> None:
    model = build({**VIT, 'in_channels': 1})
    assert check_target_model(convert(model.state_dict(), 'file', target)).good


@pytest.mark.parametrize('target', ['mmpretrain', 'timm', 'torchvision'])
def test_resnet_gives_the_same_map(target: str) -> None:
    model = randomized(RESNET)
    built = loaded(model, target)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        if target == 'mmpretrain':
            actual = built(x)[-1]
        else:
            stem = built.maxpool(torch.relu(built.bn1(built.conv1(x))))
            actual = built.layer4(built.layer3(built.layer2(built.layer1(stem))))
        expected = model(x)[-1]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('target', ['mmpretrain', 'timm', 'torchvision'])
def test_convnext_gives_the_same_feature(target: str) -> None:
    model = randomized(CONVNEXT)
    built = loaded(model, target)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        actual = built(x)[-1] if target == 'mmpretrain' else built(x)
        expected = model(x)[-1]  # pooled, then the last norm
    torch.testing.assert_close(actual.flatten(), expected.flatten(), rtol=1e-4, atol=1e-5)


BEIT = {
    'type': 'mmpretrain.BEiTViT',
    'arch': _ARCH,
    'img_size': 32,
    'patch_size': 8,
    'use_rel_pos_bias': True,
    'layer_scale_init_value': 0.1,
    'final_norm': True,
    'out_type': 'cls_token',
}
SWIN = {
    'type': 'mmpretrain.SwinTransformer',
    'arch': {'embed_dims': 8, 'depths': [1, 1, 1, 1], 'num_heads': [1, 2, 2, 4]},
    'img_size': 128,
    'window_size': 4,
}


@pytest.mark.parametrize('positions', [True, False])
@pytest.mark.parametrize('target', ['mmpretrain', 'timm'])
def test_beit_gives_the_same_feature(target: str, positions: bool) -> None:
    model = randomized({**BEIT, 'use_abs_pos_emb': positions})
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        built = loaded(model, target)
        actual = built(x)[-1][:, 0] if target == 'mmpretrain' else built(x)
        expected = model(x)[-1]  # class token, after the last norm
    torch.testing.assert_close(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize('target', ['mmpretrain', 'mmdet', 'mmseg'])
def test_swin_gives_the_same_map(target: str) -> None:
    model = randomized(SWIN)
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        actual, expected = loaded(model, target)(x)[-1], model(x)[-1]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_norms_of_all_stages() -> None:
    state = build({**CONVNEXT, 'out_indices': [0, 1, 2, 3]}).state_dict()
    assert check_target_model(convert(state, 'file', 'mmdet')).good


def test_prefix_and_head() -> None:
    state = {f'module.{name}': value for name, value in randomized(RESNET).state_dict().items()}
    file = {**state, 'module.projection_head.0.weight': torch.zeros(1)}
    done = convert(file, 'file', 'mmpretrain', keep_head=True, prefix='backbone.')
    assert done.head == {'backbone.projection_head.0.weight'}
    assert check_target_model(done).good


def test_images_that_are_not_square() -> None:
    state = build(VIT).state_dict()
    for target in READ:
        assert check_target_model(convert(state, 'file', target, img_size=(32, 48))).good
    oblong = convert(state, 'file', 'mmpretrain', img_size=(32, 48)).state
    with pytest.raises(NoTargetModel, match='not square'):
        check_target_model(convert(oblong, 'file', 'timm'))


def test_shapes_of_no_model() -> None:
    state = build(SWIN).state_dict()
    without = {name: value for name, value in state.items() if 'relative_position_bias_table' not in name}
    with pytest.raises(CheckpointError, match='has these shapes'):
        check_target_model(convert(without, 'file', 'mmpretrain'))


def test_what_does_not_fit_is_named() -> None:
    state = randomized(RESNET).state_dict()
    del state['layer2.0.bn1.weight']
    state['layer3.0.bn1.bias'] = torch.zeros(1)
    state['layer9.weight'] = torch.zeros(1)
    fit = check_target_model(convert(state, 'file', 'mmpretrain'))
    assert not fit.good
    assert fit == Fit('mmpretrain.ResNet', ['layer2.0.bn1.weight'], [], ['layer9.weight'], ['layer3.0.bn1.bias'])
    assert fit.problem() == 'mmpretrain.ResNet has 1 tensors that the file lacks (layer2.0.bn1.weight)'


def test_a_model_that_the_library_lacks() -> None:
    narrow = build({**RESNET, 'stem_channels': 16, 'base_channels': 16}).state_dict()
    assert check_target_model(convert(narrow, 'file', 'mmpretrain')).good
    with pytest.raises(NoTargetModel, match='stem of 16 channels'):
        check_target_model(convert(narrow, 'file', 'torchvision'))
    gray = build({**RESNET, 'in_channels': 1}).state_dict()
    assert check_target_model(convert(gray, 'file', 'timm')).good
    with pytest.raises(NoTargetModel, match='take 3 channels'):
        check_target_model(convert(gray, 'file', 'torchvision'))


@pytest.mark.parametrize('target', READ)
def test_tecs_encoder_with_its_class_token_merged(target: str) -> None:
    """The class token goes through an MLP before, and is an ordinary one after; the same bits in mmpretrain."""
    backbone = vit_config(width=24, depth=3, heads=HEADS, img_size=32, patch_size=8, feedforward=48)
    tec = build(tec_config(backbone))
    for value in tec.state_dict().values():
        value.copy_(0.3 * torch.randn_like(value))
    done = convert({'state_dict': tec.state_dict()}, 'file', target)
    assert [op for source, _, op in done.rows if source.endswith('cls_token')] == ['cls_token_mlp']
    assert check_target_model(done).good
    built = build_target_model(done, HEADS)
    built.load_state_dict(done.state)
    built.eval()
    encoder = build({**backbone, 'type': 'TECViT', 'out_type': 'raw'})
    encoder.load_state_dict(tec.backbone.state_dict())
    encoder.eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        if target == 'mmpretrain':
            built.out_type = 'raw'
            assert torch.equal(built(x)[-1], encoder(x)[-1])
        torch.testing.assert_close(READ[target](built, x), encoder(x)[-1], rtol=0, atol=2e-5)
