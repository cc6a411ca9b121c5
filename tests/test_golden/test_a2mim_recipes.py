"""Learning rate and weight decay of every parameter, and the schedule, of A2MIM's released runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import golden_file, golden_names, some
from helpers import assert_close, build, count_numbered
from mmengine.config import Config
from mmpretrain.models.backbones.resnet import Bottleneck

from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.models.backbones.resnet import SelfSupResNet
from mmselfsup_graft.registry import PARAM_SCHEDULERS

SCHEDULES = Path(__file__).parents[2] / 'configs' / '_base_' / 'schedules'
# kind of network, and whether it is fine-tuned -> those of our schedules that go with it
SCHEDULES_OF = {
    ('resnet', False): ('a2mim_adamw_resnet_100e', 'a2mim_adamw_resnet_300e'),
    ('convnext', False): ('a2mim_adamw_convnext_300e',),
    ('vit', False): ('a2mim_adamw_vit_800e',),
    ('vit', True): ('finetune_simmim_100e',),
    ('convnext', True): ('finetune_convnext-spark_400e',),
}
OURS = (('neck.decoder_pred.', 'neck.decoder.'), ('backbone.fc_norm.', 'backbone.ln2.'))
DECAY = 'layer_decay'


def _set_ups() -> list[tuple[str, str]]:
    """File and name of every set-up."""
    found = []
    for name in golden_names('groups', 'a2mim'):
        try:
            keys = golden_file(name, 'a2mim')
        except pytest.fail.Exception:
            keys = ['missing_name']  # the tests fail with the name of the file
        found += [(name, key.removesuffix('_name')) for key in sorted(keys) if key.endswith('_name')]
    return found


def _renamed(name: str) -> str:
    for theirs, ours in OURS:
        name = name.replace(theirs, ours)
    return name


def _expected(file: str, set_up: str) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter, by our names."""
    data = golden_file(file, 'a2mim')
    columns = (data[f'{set_up}_{key}'].tolist() for key in ('name', 'lr', 'wd'))
    return some({_renamed(name): (lr, decay) for name, lr, decay in zip(*columns, strict=True)}, 'parameters')


def _layer_decay(file: str, set_up: str) -> float | None:
    """Layer decay of a set-up, whose name is the beginning of the setting's."""
    settings = json.loads(str(golden_file(file, 'a2mim')['config']))
    found = [
        value
        for key, value in settings.items()
        if key.endswith(DECAY) and set_up.startswith(key.removesuffix(DECAY).rstrip('_'))
    ]
    return found[0] if found else None


def _stages(names: list[str], prefix: str) -> list[int]:
    """Blocks in each stage, whose names are ``{prefix}{stage}.{block}.``; stages count from where the names do."""
    numbers = sorted({int(n[len(prefix) :].partition('.')[0]) for n in names if n.startswith(prefix)})
    return [count_numbered(names, f'{prefix}{number}') for number in numbers]


def _is_tuned(names: list[str]) -> bool:
    return any(name.startswith('head.') for name in names)


def _family(names: list[str]) -> str:
    if any('.attn.' in name for name in names):
        return 'vit'
    return 'convnext' if any('downsample_layers' in name for name in names) else 'resnet'


def _transformer(names: list[str]) -> dict[str, Any]:
    depth = count_numbered(names, 'backbone.layers')
    arch = dict(embed_dims=16, num_layers=depth, num_heads=2, feedforward_channels=32)
    scaled = any('.gamma' in name for name in names)
    relative = any('relative_position' in name for name in names)
    config = dict(arch=arch, img_size=32, patch_size=16, layer_scale_init_value=0.1 if scaled else 0.0)
    if relative:
        config['use_abs_pos_emb'] = 'backbone.pos_embed' in names
    family = 'BEiT' if relative else 'ViT'
    if _is_tuned(names):
        pooled = any('.ln2.' in name and '.layers.' not in name for name in names)
        config.update(out_type='avg_featmap' if pooled else 'cls_token', final_norm=not pooled)
        return dict(type=f'SelfSup{family}', **config)
    return dict(type=f'Masked{family}', **config)


def _convnext(names: list[str]) -> dict[str, Any]:
    depths = _stages(names, 'backbone.stages.')
    arch = dict(depths=depths, channels=[4 * (1 + stage) for stage in range(len(depths))])
    kind = 'mmpretrain.ConvNeXt' if _is_tuned(names) else 'MaskedConvNeXt'
    return dict(type=kind, arch=arch, out_indices=[len(depths) - 1], gap_before_final_norm=_is_tuned(names))


def _resnet(names: list[str]) -> dict[str, Any]:
    stages = tuple(_stages(names, 'backbone.layer'))
    wide = any('.conv3.' in name for name in names)
    known = SelfSupResNet.arch_settings.items()
    depths = [n for n, (block, blocks) in known if tuple(blocks) == stages and (block is Bottleneck) == wide]
    assert depths, f'there is no ResNet with {stages} blocks'
    return dict(type='MaskedResNet', depth=depths[0], stem_channels=4, base_channels=4)


def _model(names: list[str]) -> Any:
    """A narrow model of the kind and depth that the parameter names tell."""
    make = {'vit': _transformer, 'convnext': _convnext, 'resnet': _resnet}[_family(names)]
    backbone = make(names)
    if _is_tuned(names):
        loss = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)
        head = dict(type='mmpretrain.LinearClsHead', num_classes=3, loss=loss)
        return build(dict(type='GraftedClassifier', backbone=backbone, head=head))
    gain = any(name.endswith('mask_gamma') for name in names)
    token = any(name.endswith('mask_token') for name in names)
    backbone.update(mask_replace=False, mask_gain=1e-6 if gain else 0.0, mask_kind='learnable' if token else 'none')
    neck = dict(type='PixelShuffleNeck')
    return build(dict(type='SimMIM', backbone=backbone, neck=neck, head=dict(type='SimMIMHead')))


def _groups(file: str, set_up: str, model: Any, schedule: str, **options: Any) -> dict[str, tuple[float, float]]:
    """Rate and decay of every parameter by the rules of our config, at the base values of the file."""
    lr, decay = (max(column) for column in zip(*_expected(file, set_up).values()))
    paramwise = Config.fromfile(SCHEDULES / f'{schedule}.py').optim_wrapper.paramwise_cfg.to_dict()
    ratio = _layer_decay(file, set_up)
    paramwise |= options | ({'layer_wise_decay_ratio': ratio} if ratio else {})
    optimizer = dict(type='AdamW', lr=lr, weight_decay=decay)
    groups = LayerWiseLRConstructor({'optimizer': optimizer}, paramwise).param_groups(model)
    return {name: (g['lr'], g['weight_decay']) for g in groups for name in g['param_names']}


def _same(found: dict[str, tuple[float, float]], expected: dict[str, tuple[float, float]]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name] == (pytest.approx(lr, rel=1e-9), pytest.approx(decay, rel=1e-12))
        for name, (lr, decay) in expected.items()
    )


def _schedule(file: str, set_up: str, model: Any) -> str:
    """The schedule of ours that is that of the set-up: of the ResNet's two, the one that treats the gain likewise."""
    expected = _expected(file, set_up)
    candidates = SCHEDULES_OF[_family(list(expected)), _is_tuned(list(expected))]
    fits = (each for each in candidates if _same(_groups(file, set_up, model, each, as_released=True), expected))
    return next(fits, candidates[0])


@pytest.mark.parametrize(('file', 'set_up'), _set_ups())
def test_groups_as_released(file: str, set_up: str) -> None:
    expected = _expected(file, set_up)
    model = _model(list(expected))
    found = _groups(file, set_up, model, _schedule(file, set_up, model), as_released=True)
    assert found.keys() == expected.keys()
    for name, (lr, decay) in expected.items():
        assert found[name] == (pytest.approx(lr, rel=1e-9), pytest.approx(decay, rel=1e-12)), name


@pytest.mark.parametrize(('file', 'set_up'), _set_ups())
def test_our_groups_differ_in_the_decay_of_norms_and_gain_only(file: str, set_up: str) -> None:
    """Quirk 8 of the specification."""
    expected = _expected(file, set_up)
    model = _model(list(expected))
    sizes = {name: value.ndim for name, value in model.named_parameters()}
    found = _groups(file, set_up, model, _schedule(file, set_up, model))
    assert found.keys() == expected.keys()
    for name, (lr, decay) in found.items():
        never = sizes[name] <= 1 or name == 'backbone.mask_gamma'
        assert lr == pytest.approx(expected[name][0], rel=1e-9), name
        assert decay == (0.0 if never else pytest.approx(expected[name][1], rel=1e-12)), name


@pytest.mark.parametrize('name', golden_names('schedule', 'a2mim'))
def test_schedule(name: str) -> None:
    data = golden_file(name, 'a2mim')
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
    assert len(found) == config['max_epochs'] * config['iters_per_epoch'] > 0
    assert_close(found, data['lr'], rtol=1e-6)
