"""Converted backbones in mmdet and mmseg: every tensor fits, and the features are the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, randomized, tec_config, vit_config
from torch import nn

from mmselfsup_graft.checkpoints import convert, save_atomically
from mmselfsup_graft.checkpoints.formats.encoder import StateDict, to_encoder
from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.targets.target_check import build_target_model, check_target_model

ARCH = {'embed_dims': 24, 'num_layers': 3, 'num_heads': 3, 'feedforward_channels': 48}
VIT = {'type': 'mmpretrain.VisionTransformer', 'arch': ARCH, 'img_size': 32, 'patch_size': 8, 'final_norm': False}
MAPS = {'out_type': 'featmap', 'out_indices': [0, 1, 2]}
BEIT = {**VIT, 'type': 'mmpretrain.BEiTViT', 'use_rel_pos_bias': True, 'layer_scale_init_value': 0.1}


def target_model_of(state: StateDict, target: str, heads: int | None = None) -> nn.Module:
    """The target's model with the converted weights."""
    done = convert({'state_dict': state}, 'file', target)
    fit = check_target_model(done)
    assert fit.good, fit.problem()
    built = build_target_model(done, heads)
    missing, unexpected = built.load_state_dict(done.state, strict=False)
    assert not unexpected
    assert set(missing) == set(fit.fresh)
    built.eval()
    return built


def assert_same_maps(actual: Any, expected: Any) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


@pytest.mark.parametrize(('target', 'kind'), [('mmseg-vit', 'VisionTransformer'), ('mmseg-mae', 'MAE')])
@torch.no_grad()
def test_vit_in_mmsegs_classes(target: str, kind: str) -> None:
    model = randomized({**VIT, **MAPS})
    built = target_model_of(model.state_dict(), target, heads=3)
    assert (type(built).__module__.partition('.')[0], type(built).__name__) == ('mmseg', kind)
    if kind == 'MAE':  # no relative positions in the file: the class has them, at the values it begins with
        for name, value in built.state_dict().items():
            if name.endswith('relative_position_bias_table'):
                value.zero_()
    x = torch.randn(2, 3, 32, 32)
    assert_same_maps(built(x), model(x))


@pytest.mark.parametrize('positions', [True, False])
@torch.no_grad()
def test_beit_in_mmsegs_mae(positions: bool) -> None:
    model = randomized({**BEIT, **MAPS, 'use_abs_pos_emb': positions})
    built = target_model_of(model.state_dict(), 'mmseg-mae')
    if not positions:
        built.pos_embed.zero_()
    x = torch.randn(2, 3, 32, 32)
    assert_same_maps(built(x), model(x))


@pytest.mark.parametrize('target', ['mmdet', 'mmseg'])
@torch.no_grad()
def test_resnet(target: str) -> None:
    model = randomized({'type': 'mmpretrain.ResNet', 'depth': 50, 'base_channels': 8, 'stem_channels': 8})
    model.out_indices = (0, 1, 2, 3)
    built = target_model_of(model.state_dict(), target)
    assert type(built).__module__.partition('.')[0] == target
    x = torch.randn(1, 3, 64, 64)
    for one, other in zip(built(x), model(x)):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('target', ['mmdet', 'mmseg'])
@torch.no_grad()
def test_vit_in_detectors_and_segmentors(target: str) -> None:
    model = randomized({**VIT, **MAPS})
    built = target_model_of(model.state_dict(), target, heads=3)
    built.out_type, built.out_indices = 'featmap', [0, 1, 2]
    x = torch.randn(1, 3, 32, 48)
    assert_same_maps(built(x), model(x))


@torch.no_grad()
def test_mmsegs_mae_goes_back() -> None:
    """Its fused bias has one of the keys, which softmax ignores."""
    done = convert(
        {'state_dict': randomized({**BEIT, **MAPS, 'use_abs_pos_emb': True}).state_dict()}, 'file', 'mmseg-mae'
    )
    built = build_target_model(done)
    built.load_state_dict(done.state, strict=False)
    for name, value in built.state_dict().items():
        if name.endswith('qkv.bias'):
            value.normal_()
    built.eval()
    back = convert({'state_dict': built.state_dict()}, 'file', 'mmpretrain')
    model = build({**BEIT, **MAPS, 'use_abs_pos_emb': True})
    missing, unexpected = model.load_state_dict(back.state, strict=False)
    assert not unexpected
    assert not missing
    model.eval()
    x = torch.randn(1, 3, 32, 32)
    assert_same_maps(model(x), built(x))


@pytest.mark.parametrize('target', ['mmseg', 'mmseg-vit', 'mmseg-mae'])
@torch.no_grad()
def test_tecs_encoder_with_its_class_token_merged(target: str) -> None:
    backbone = vit_config(width=24, depth=3, heads=3, img_size=32, patch_size=8, feedforward=48)
    tec = build(tec_config(backbone))
    for value in tec.state_dict().values():
        value.copy_(0.3 * torch.randn_like(value))
    encoder = build({**backbone, 'type': 'TECViT', 'final_norm': False, **MAPS})
    encoder.load_state_dict({n: v for n, v in tec.backbone.state_dict().items() if not n.startswith('ln1.')})
    encoder.eval()
    built = target_model_of(tec.state_dict(), target, heads=3)
    for name, value in built.state_dict().items():
        if name.endswith('relative_position_bias_table'):
            value.zero_()
    if target == 'mmseg':
        built.out_type, built.out_indices = 'featmap', [0, 1, 2]
    x = torch.randn(1, 3, 32, 32)
    assert_same_maps(built(x), encoder(x))


@pytest.mark.parametrize('target', ['mmseg-vit', 'mmseg-mae'])
def test_there_and_back(target: str) -> None:
    state = randomized(VIT).state_dict()
    there = convert({'state_dict': state}, 'file', target).state
    back = to_encoder({'state_dict': there}, 'file').state
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_the_defaults_of_mmseg_would_change_the_features() -> None:
    """Why the converter says what to set: patch_bias=False loses a tensor, eps 1e-5 moves the maps."""
    model = randomized({**VIT, **MAPS})
    done = convert({'state_dict': model.state_dict()}, 'file', 'mmseg-vit')
    built = build_target_model(done, 3)
    assert built.patch_embed.projection.bias is not None
    assert {module.eps for module in built.modules() if isinstance(module, nn.LayerNorm)} == {1e-6}


# ---------------------------------------------------------------- straight into mmseg's classes, by the runner
MMSEG = dict(embed_dims=24, num_layers=3, num_heads=3, mlp_ratio=2, img_size=32, patch_size=8, out_indices=[0, 1, 2])
EPS = dict(type='LN', eps=1e-6)


def loaded_by_the_runner(config: dict[str, Any], state: StateDict, folder: Path) -> tuple[nn.Module, str]:
    save_atomically({'state_dict': state}, folder / 'file.pth')
    module = build({**MMSEG, 'norm_cfg': EPS, **config})
    report = load_pretrained(PretrainedPart('backbone', module, str(folder / 'file.pth')))
    module.eval()
    return module, report


@torch.no_grad()
def test_a_vit_into_mmsegs_vision_transformer(tmp_path: Path) -> None:
    model = randomized({**VIT, **MAPS})
    built, report = loaded_by_the_runner(
        dict(type='mmseg.VisionTransformer', patch_bias=True), model.state_dict(), tmp_path
    )
    x = torch.randn(2, 3, 32, 32)
    assert_same_maps(built(x), model(x))
    assert 'warning' not in report
    with pytest.raises(
        CheckpointError, match=r'projection\.bias of the file has no place in the model \(set patch_bias=True\)'
    ):
        loaded_by_the_runner(dict(type='mmseg.VisionTransformer'), model.state_dict(), tmp_path)
    coarse = dict(type='mmseg.VisionTransformer', patch_bias=True, norm_cfg=dict(type='LN'))
    assert 'warning: layer norms with eps=1e-05' in loaded_by_the_runner(coarse, model.state_dict(), tmp_path)[1]


@torch.no_grad()
def test_a_vit_into_mmsegs_mae(tmp_path: Path) -> None:
    model = randomized({**VIT, **MAPS})
    built, _ = loaded_by_the_runner(dict(type='mmseg.MAE', init_values=1.0), model.state_dict(), tmp_path)
    for name, value in built.state_dict().items():
        if name.endswith('relative_position_bias_table'):
            value.zero_()
    x = torch.randn(2, 3, 32, 32)
    assert_same_maps(built(x), model(x))
    with pytest.raises(CheckpointError, match=r'destroys the features \(set init_values=1.0\)'):
        loaded_by_the_runner(dict(type='mmseg.MAE', init_values=0.1), model.state_dict(), tmp_path)


@torch.no_grad()
def test_a_beit_into_mmsegs_mae_and_beit_at_another_size(tmp_path: Path) -> None:
    whole = randomized({**BEIT, **MAPS, 'use_abs_pos_emb': True})
    built, report = loaded_by_the_runner(dict(type='mmseg.MAE', img_size=48), whole.state_dict(), tmp_path)
    assert '4 of them resized: layers.0 (1), layers.1 (1), layers.2 (1), pos_embed (1)' in report
    assert built(torch.randn(1, 3, 48, 48))[0].shape == (1, 24, 6, 6)
    model = randomized({**BEIT, **MAPS, 'use_abs_pos_emb': False})
    built, _ = loaded_by_the_runner(
        dict(type='mmseg.BEiT', qv_bias=True, init_values=0.1), model.state_dict(), tmp_path
    )
    x = torch.randn(1, 3, 32, 32)
    assert_same_maps(built(x), model(x))
    with pytest.raises(CheckpointError, match='pos_embed of the file has no place'):
        loaded_by_the_runner(dict(type='mmseg.BEiT', qv_bias=True, init_values=0.1), whole.state_dict(), tmp_path)
