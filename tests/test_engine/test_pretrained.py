"""Pre-trained parts of a model: what is taken out of its config, what is loaded, what is said and refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build
from mmengine.model import BaseModule, PretrainedInit
from torch import nn

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained, take_pretrained
from mmselfsup_graft.errors import CheckpointError, ConfigError, NonFiniteWeightsError
from mmselfsup_graft.models import ResLayerExtraNorm

RESNET = {'type': 'mmpretrain.ResNet', 'depth': 18, 'stem_channels': 4, 'base_channels': 4}
ARCH = {'embed_dims': 24, 'num_layers': 2, 'num_heads': 3, 'feedforward_channels': 48}
SWIN = {
    'type': 'mmpretrain.SwinTransformer',
    'arch': {'embed_dims': 8, 'depths': [1, 1, 1, 1], 'num_heads': [1, 2, 2, 4]},
    'img_size': 64,
}


def filled(model: nn.Module, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return model


def loaded(module: nn.Module, content: dict[str, Any], folder: Path, prefix: str = '') -> str:
    save_atomically(content, folder / 'file.pth')
    return load_pretrained(PretrainedPart('backbone', module, str(folder / 'file.pth'), prefix))


def assert_equal_states(one: nn.Module, other: nn.Module) -> None:
    mine, yours = one.state_dict(), other.state_dict()
    assert mine.keys() == yours.keys()
    assert all(torch.equal(mine[name], yours[name]) for name in mine)


# ---------------------------------------------------------------- what is taken out of the model
class Holder(BaseModule):
    def __init__(self, **parts: Any) -> None:
        super().__init__(parts.pop('init_cfg', None))
        for name, init_cfg in parts.items():
            part = BaseModule(init_cfg)
            part.linear = nn.Linear(2, 2)
            self.add_module(name, part)


FILE = {'type': 'Pretrained', 'checkpoint': 'file.pth'}


def test_files_are_taken_and_everything_else_stays():
    others = [{'type': 'Kaiming', 'layer': 'Linear'}, {'type': 'Constant', 'val': 1, 'layer': 'Linear'}]
    address = {'type': 'Pretrained', 'checkpoint': 'torchvision://resnet50'}
    inside = {**others[0], 'override': [{**others[1], 'name': 'linear'}, {**FILE, 'name': 'linear'}]}
    model = Holder(
        backbone={**FILE, 'prefix': 'backbone.'}, head=[*others, [FILE]], neck=address, plain=others[0], nothing=None
    )
    model.add_module('deep', Holder(part=inside))
    parts = take_pretrained(model)
    assert [(part.name, part.checkpoint, part.prefix) for part in parts] == [
        ('backbone', 'file.pth', 'backbone.'),
        ('head', 'file.pth', ''),
        ('neck', 'torchvision://resnet50', ''),  # refused when it is to be loaded
        ('deep.part.linear', 'file.pth', ''),
    ]
    assert parts[0].module is model.backbone
    assert model.backbone.init_cfg is None
    assert model.head.init_cfg == others
    assert model.neck.init_cfg is None
    assert model.deep.part.init_cfg == [{**others[0], 'override': [{**others[1], 'name': 'linear'}]}]
    assert model.plain.init_cfg == others[0]


@pytest.mark.parametrize(
    'kind', ['Pretrained', 'mmengine.Pretrained', 'mmdet.Pretrained', 'mmengine.model.PretrainedInit', PretrainedInit]
)
def test_every_way_to_write_the_type(kind):
    (part,) = take_pretrained(Holder(init_cfg={**FILE, 'type': kind}))
    assert part.name == 'the model'


@pytest.mark.parametrize('init_cfg', [{'type': 'Pretrained'}, [FILE, FILE]])
def test_no_file_and_two_files(init_cfg):
    with pytest.raises(ConfigError, match=r"backbone\.init_cfg: give one dict\(type='Pretrained'"):
        take_pretrained(Holder(backbone=init_cfg))


# ---------------------------------------------------------------- what is loaded
def test_names_of_the_file_and_what_stays_out(tmp_path):
    source, module = filled(build(RESNET)), build(RESNET)
    state = {f'module.encoder_q.{name}': value for name, value in source.state_dict().items()}
    report = loaded(module, {'state_dict': {**state, 'module.encoder_q.fc.weight': torch.zeros(1)}}, tmp_path)
    assert_equal_states(module, source)
    assert f'{len(state)} tensors from {tmp_path / "file.pth"} (format moco, base encoder)' in report
    assert '1 tensors of the file have no place here: module.encoder_q (1)' in report


def test_prefix_with_and_without_dot(tmp_path):
    source = filled(build(RESNET))
    state = {f'student.net.{name}': value for name, value in source.state_dict().items()}
    for wrapped in (state, {'state_dict': state}, {'model': state}):
        for prefix in ('student.net', 'student.net.'):
            module = build(RESNET)
            loaded(module, wrapped, tmp_path, prefix)
            assert_equal_states(module, source)
    with pytest.raises(
        CheckpointError, match=r"no tensor whose name begins with 'teacher\.'; leave init_cfg\.prefix out"
    ):
        loaded(build(RESNET), state, tmp_path, 'teacher')


@pytest.mark.parametrize('content', [{'state_dict': [1, 2]}, {1: torch.zeros(1)}, {'state_dict': {}}])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_files_of_another_kind(content, prefix, tmp_path):
    with pytest.raises(CheckpointError, match=r'file\.pth'):
        loaded(build(RESNET), content, tmp_path, prefix)


def test_a_network_that_no_format_knows_but_that_has_the_very_names(tmp_path):
    config = {'type': 'mmpretrain.MobileNetV2', 'widen_factor': 0.25}
    source = filled(build(config))
    for before in ('', 'backbone.'):
        module = build(config)
        content = {f'{before}{name}': value for name, value in source.state_dict().items()}
        report = loaded(module, {'state_dict': {**content, 'head.fc.weight': torch.zeros(1)}}, tmp_path)
        assert_equal_states(module, source)
        assert '(named as in the model)' in report
        assert 'no place here: head.fc (1)' in report
    del content['backbone.conv1.bn.weight']
    with pytest.raises(CheckpointError):
        loaded(build(config), content, tmp_path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_values_of_a_network_that_no_format_knows(value, tmp_path):
    config = {'type': 'mmpretrain.MobileNetV2', 'widen_factor': 0.25}
    module, state = build(config), filled(build(config)).state_dict()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state['conv1.conv.weight'][0] = value
    with pytest.raises(NonFiniteWeightsError, match=r'file\.pth .*conv1\.conv\.weight holds NaN or infinite'):
        loaded(module, state, tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    state['conv1.conv.weight'] = torch.zeros(before['conv1.conv.weight'].shape, dtype=torch.int64)
    with pytest.raises(CheckpointError, match=r'conv1\.conv\.weight is of type int64'):
        loaded(module, state, tmp_path)


@pytest.mark.parametrize('before', ['', 'backbone.'])
def test_another_number_of_heads_in_a_file_of_the_very_names(before, tmp_path):
    config = {'type': 'mmpretrain.VisionTransformer', 'arch': ARCH, 'img_size': 32, 'out_type': 'featmap'}
    state = {f'{before}{name}': value for name, value in filled(build(config)).state_dict().items()}
    content = {'state_dict': state, 'meta': {'encoder': {'num_heads': 4}}}
    with pytest.raises(CheckpointError, match='its encoder has 4 attention heads, expected 3'):
        loaded(build(config), content, tmp_path, before)
    content['meta']['encoder']['num_heads'] = 3
    loaded(build(config), content, tmp_path, before)


def test_stage_for_a_head_and_the_norm_behind_it(tmp_path):
    source = filled(build({**RESNET, 'depth': 50}))
    stage = ResLayerExtraNorm(depth=50, base_channels=4, norm_cfg={'type': 'BN'})
    report = loaded(stage, {'state_dict': source.state_dict()}, tmp_path)
    for name, value in source.layer4.state_dict().items():
        assert torch.equal(stage.layer4.state_dict()[name], value)
    assert 'stay as initialized, as expected: bias, num_batches_tracked, running_mean, running_var, weight' in report
    stage.norm.bias.data.fill_(3)
    stage.eval()
    x = torch.randn(2, 64, 6, 6)
    with torch.no_grad():
        expected = source.eval() or source.layer4.eval()(x)
        # a fresh norm divides by sqrt(1 + eps); and its bias
        torch.testing.assert_close(stage(x), expected / (1 + 1e-5) ** 0.5 + 3)
    assert stage(x).shape == (2, 128, 3, 3)


def test_a_stage_that_does_not_exist():
    with pytest.raises(ConfigError, match='no stage 4 of a ResNet-50'):
        ResLayerExtraNorm(depth=50, stage=4)


# ---------------------------------------------------------------- warnings and refusals
def test_frozen_statistics_are_worth_a_word(tmp_path):
    module = build({**RESNET, 'norm_eval': True})
    assert 'warning: norm_eval=True' in loaded(module, build(RESNET).state_dict(), tmp_path)
    assert 'warning' not in loaded(build(RESNET), build(RESNET).state_dict(), tmp_path)


def test_another_eps_is_worth_a_word(tmp_path):
    vit = {'type': 'mmpretrain.VisionTransformer', 'arch': ARCH, 'img_size': 32, 'patch_size': 8}
    source = build(vit)
    assert 'warning' not in loaded(build(vit), source.state_dict(), tmp_path)
    coarse = build({**vit, 'norm_cfg': {'type': 'LN', 'eps': 1e-5}})
    assert 'warning: layer norms with eps=1e-05' in loaded(coarse, source.state_dict(), tmp_path)


def test_a_swin_with_other_windows(tmp_path):
    narrow, wide = build({**SWIN, 'window_size': 2}), build({**SWIN, 'window_size': 4})
    with pytest.raises(CheckpointError, match='relative_position_bias_table is 9 x 1 in the file and 49 x 1'):
        loaded(wide, narrow.state_dict(), tmp_path)
    again = build({**SWIN, 'window_size': 2})
    loaded(again, filled(narrow).state_dict(), tmp_path)
    assert torch.equal(again.norm3.weight, narrow.norm3.weight)


def test_positions_without_a_place(tmp_path):
    beit = {'type': 'mmpretrain.BEiTViT', 'arch': ARCH, 'img_size': 32, 'patch_size': 8, 'out_type': 'featmap'}
    source = build({**beit, 'use_abs_pos_emb': True})
    with pytest.raises(CheckpointError, match='pos_embed of the file has no place in the model'):
        loaded(build({**beit, 'use_abs_pos_emb': False}), source.state_dict(), tmp_path)
