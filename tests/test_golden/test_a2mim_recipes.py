"""Learning rate and weight decay of every parameter, and the schedule, of A2MIM's released runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_close, build, count_numbered, golden, golden_folder
from mmengine.config import Config

from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.registry import PARAM_SCHEDULERS

SCHEDULES = Path(__file__).parents[2] / 'configs' / '_base_' / 'schedules'
# beginning of a set-up's name -> the schedule of our configs that goes with it
SCHEDULE_OF = {
    'pt_resnet_ep100': 'a2mim_adamw_resnet_100e',
    'pt_resnet_ep300': 'a2mim_adamw_resnet_300e',
    'pt_convnext': 'a2mim_adamw_convnext_300e',
    'pt_vit': 'a2mim_adamw_vit_800e',
    'ft_vit': 'finetune_simmim_100e',
    'ft_convnext': 'finetune_convnext-spark_400e',
}
OURS = (('neck.decoder_pred.', 'neck.decoder.'), ('backbone.fc_norm.', 'backbone.ln2.'))


def _set_ups() -> list[str]:
    """Names of the set-ups in the file; none if the set lacks it."""
    if not (golden_folder('a2mim') / 'param_groups.npz').is_file():
        return []
    return sorted(key.removesuffix('_name') for key in golden('param_groups.npz', 'a2mim') if key.endswith('_name'))


def _renamed(name: str) -> str:
    for theirs, ours in OURS:
        name = name.replace(theirs, ours)
    return name


def _expected(set_up: str) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter, by our names."""
    data = golden('param_groups.npz', 'a2mim')
    columns = (data[f'{set_up}_{key}'].tolist() for key in ('name', 'lr', 'wd'))
    return {_renamed(name): (lr, decay) for name, lr, decay in zip(*columns)}


def _stages(names: list[str], prefix: str) -> list[int]:
    """Blocks in each stage, whose names are ``{prefix}{stage}.{block}.``; stages count from where the names do."""
    numbers = sorted({int(n[len(prefix) :].partition('.')[0]) for n in names if n.startswith(prefix)})
    return [count_numbered(names, f'{prefix}{number}') for number in numbers]


def _model(names: list[str]) -> Any:
    """A narrow model of the kind and depth that the parameter names tell."""
    tuned = any(name.startswith('head.') for name in names)
    backbone: dict[str, Any]
    if any('.attn.' in name for name in names):
        depth = count_numbered(names, 'backbone.layers')
        arch = dict(embed_dims=16, num_layers=depth, num_heads=2, feedforward_channels=32)
        how = dict(out_type='avg_featmap', final_norm=False) if tuned else dict(mask_replace=False)
        backbone = dict(type='SelfSupBEiT' if tuned else 'MaskedBEiT', arch=arch, img_size=32, patch_size=16, **how)
    elif any('downsample_layers' in name for name in names):
        arch = dict(depths=_stages(names, 'backbone.stages.'), channels=[4, 8, 12, 16])
        backbone = dict(type='mmpretrain.ConvNeXt', arch=arch, gap_before_final_norm=tuned)
        token = dict(mask_layer=3, mask_replace=False, mask_gain=1e-6)
        backbone |= {} if tuned else dict(type='MaskedConvNeXt', **token)
    else:
        assert _stages(names, 'backbone.layer') == [2, 2, 2, 2]
        backbone = dict(type='MaskedResNet', depth=18, stem_channels=4, base_channels=4)
        backbone |= dict(mask_layer=3, mask_replace=False, mask_gain=1e-6)
    if tuned:
        loss = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)
        head = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16, loss=loss)
        return build(dict(type='GraftedClassifier', backbone=backbone, head=head))
    neck = dict(type='PixelShuffleNeck', in_channels=16, stride=2)
    return build(dict(type='SimMIM', backbone=backbone, neck=neck, head=dict(type='SimMIMHead')))


def _groups(set_up: str, model: Any, **options: Any) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter by the rules of our config, at the base values of the file."""
    values = _expected(set_up).values()
    lr, decay = (max(column) for column in zip(*values))
    paramwise = Config.fromfile(SCHEDULES / f'{SCHEDULE_OF[set_up]}.py').optim_wrapper.paramwise_cfg.to_dict()
    ratio = json.loads(str(golden('param_groups.npz', 'a2mim')['config'])).get(f'{set_up}_layer_decay')
    paramwise |= options | ({'layer_wise_decay_ratio': ratio} if ratio else {})
    optimizer = dict(type='AdamW', lr=lr, weight_decay=decay)
    groups = LayerWiseLRConstructor({'optimizer': optimizer}, paramwise).param_groups(model)
    return {name: (g['lr'], g['weight_decay']) for g in groups for name in g['param_names']}


@pytest.mark.parametrize('set_up', _set_ups())
def test_groups_as_released(set_up: str) -> None:
    expected = _expected(set_up)
    model = _model(list(expected))
    found = _groups(set_up, model, as_released=True)
    assert found.keys() == expected.keys()
    for name, (lr, decay) in expected.items():
        assert found[name] == (pytest.approx(lr, rel=1e-9), pytest.approx(decay, rel=1e-12)), name


@pytest.mark.parametrize('set_up', _set_ups())
def test_our_groups_differ_in_the_decay_of_norms_and_gain_only(set_up: str) -> None:
    """Quirk 8 of the specification."""
    expected = _expected(set_up)
    model = _model(list(expected))
    sizes = {name: value.ndim for name, value in model.named_parameters()}
    for name, (lr, decay) in _groups(set_up, model).items():
        never = sizes[name] <= 1 or name == 'backbone.mask_gamma'
        assert lr == pytest.approx(expected[name][0], rel=1e-9), name
        assert decay == (0.0 if never else expected[name][1]), name


def test_schedule() -> None:
    data = golden('lr_schedule.npz', 'a2mim')
    config = json.loads(str(data['config']))
    groups = [{'params': [torch.zeros(1, requires_grad=True)], 'lr': lr} for lr in config['base_lrs']]
    optimizer = torch.optim.SGD(groups)
    ours = Config.fromfile(SCHEDULES / 'a2mim_adamw_resnet_100e.py').param_scheduler[0]
    ours.update(warmup=config['warmup_epochs'], end=config['max_epochs'], min_lr=config['min_lr'])
    length = {'epoch_length': config['iters_per_epoch']}
    schedule = PARAM_SCHEDULERS.build(ours.to_dict(), default_args={'optimizer': optimizer, **length})
    found = np.zeros_like(data['lr'])
    for row in found:
        row[:] = [group['lr'] for group in optimizer.param_groups]
        optimizer.step()
        schedule.step()
    assert len(found) == config['max_epochs'] * config['iters_per_epoch']
    assert_close(found, data['lr'], rtol=1e-6)
