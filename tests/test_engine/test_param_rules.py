"""Rules on parameter names, and the ways of counting layers."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import build
from torch import nn

from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.engine.hooks.history import _lr_over_depth
from mmselfsup_graft.engine.optimizers.layer_wise_lr import groups_table
from mmselfsup_graft.engine.optimizers.param_rules import multipliers, parse_rules
from mmselfsup_graft.errors import ConfigError

LR, DECAY = 2.0, 0.1
NORMS = dict(match=r'bn\d\.', decay_mult=0.0)


class Small(nn.Module):
    """A backbone in ResNet's names with a gain of four dimensions, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.mask_gamma = nn.Parameter(torch.ones(1, 2, 1, 1))
        self.backbone.conv1 = nn.Conv2d(3, 2, 1)
        self.backbone.bn1 = nn.BatchNorm2d(2)
        self.backbone.layer1 = nn.ModuleList([nn.Conv2d(2, 2, 1)])
        self.head = nn.Linear(2, 2)


def _constructor(**options: Any) -> LayerWiseLRConstructor:
    return LayerWiseLRConstructor({'optimizer': dict(type='AdamW', lr=LR, weight_decay=DECAY)}, options)


def _found(model: nn.Module, **options: Any) -> dict[str, tuple[float, float]]:
    """Factors of rate and decay of every parameter."""
    groups = _constructor(**options).param_groups(model)
    found = {n: (g['lr'] / LR, g['weight_decay'] / DECAY) for g in groups for n in g['param_names']}
    assert found.keys() == {name for name, _ in model.named_parameters()}
    return found


# ---------------------------------------------------------------- rules
def test_every_match_applies_and_the_later_one_wins_for_each_factor() -> None:
    rules = parse_rules(
        [
            dict(match='token', lr_mult=0.5, decay_mult=0.0),
            dict(match=r'^backbone\.', lr_mult=0.25),
            dict(match='mask_token$', decay_mult=2),
        ]
    )
    names = ('head.fc', 'backbone.cls_token', 'backbone.mask_token', 'neck.token')
    assert [multipliers(rules, n) for n in names] == [(1.0, 1.0), (0.25, 0.0), (0.25, 2.0), (0.5, 0.0)]


def test_vectors_and_named_tensors_are_exempt_unless_as_released() -> None:
    model, rules = Small(), [NORMS, dict(match='mask_gamma', lr_mult=0.1), dict(match='layer1', decay_mult=0.5)]
    exempt = {name: (1.0, 0.0) for name, value in model.named_parameters() if value.ndim == 1}
    shared = {'backbone.conv1.weight': (1.0, 1.0), 'backbone.layer1.0.weight': (1.0, 0.5), 'head.weight': (1.0, 1.0)}
    gain = 'backbone.mask_gamma'
    assert _found(model, rules=rules) == {**exempt, **shared, gain: (0.1, 1.0)}
    assert _found(model, rules=rules, no_decay_names=['mask_gamma'])[gain] == (pytest.approx(0.1), 0.0)
    released = _found(model, rules=rules, no_decay_names=['mask_gamma'], as_released=True)
    assert released[gain] == (pytest.approx(0.1), 1.0)
    assert [released[f'backbone.{n}'][1] for n in ('bn1.weight', 'bn1.bias', 'conv1.bias', 'layer1.0.bias')] == [
        *(0.0, 0.0),
        *(1.0, 0.5),
    ]


def test_rules_multiply_the_rates_of_layers_and_head() -> None:
    model = Small()
    plain = _found(model, layer_wise_decay_ratio=0.5, head_lr_scale=3)
    found = _found(model, layer_wise_decay_ratio=0.5, head_lr_scale=3, rules=[dict(match='weight', lr_mult=0.1)])
    assert plain['backbone.conv1.weight'][0] == 0.25
    for name, (rate, _) in plain.items():
        assert found[name][0] == pytest.approx(rate * (0.1 if 'weight' in name else 1.0), rel=1e-12), name


def test_table_has_a_line_per_rate_and_decay() -> None:
    rules = [dict(match='mask_gamma', lr_mult=0.1, decay_mult=0.0)]
    groups = _constructor(rules=rules).param_groups(Small())
    rows = [line.split()[:5] for line in groups_table(groups).splitlines()[2:]]
    assert rows == [
        ['all', '2.000e+00', '1', '0.1', '3'],
        ['all', '2.000e+00', '1', '0', '5'],
        ['all', '2.000e-01', '0.1', '0', '1'],
    ]


@pytest.mark.parametrize(
    ('rules', 'message'),
    [
        ('token', "rules takes a list of dict.*got 'token'"),
        ([], 'rules takes a list of dict'),
        (['token'], r'rules\[0\] must be dict'),
        ([dict(lr_mult=0.1)], r'rules\[0\] must be dict'),
        ([NORMS, dict(match='a', decay=0.0)], r"rules\[1\]: unknown key 'decay'"),
        ([dict(match='a')], r'rules\[0\] changes nothing'),
        ([dict(match='(a', lr_mult=0.1)], r"'\(a' is not a regular expression"),
        ([dict(match='a', lr_mult='0.1')], r"lr_mult must be a number > 0, got '0.1'"),
        ([dict(match='a', lr_mult=0)], r'lr_mult must be a number > 0, got 0'),
        ([dict(match='a', decay_mult=True)], 'decay_mult must be a number >= 0, got True'),
        ([dict(match='a', decay_mult=-1)], 'decay_mult must be a number >= 0, got -1'),
    ],
)
def test_malformed_rules(rules: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _constructor(rules=rules)


def test_options_that_need_others() -> None:
    for options, message in [
        (dict(as_released=True), 'as_released=True leaves weight decay to the rules'),
        (dict(as_released=1, rules=[NORMS]), 'as_released must be True or False, got 1'),
        (dict(layer_ids='backbone'), 'set both'),
        (dict(layer_ids='stages', layer_wise_decay_ratio=0.5), "layer_ids is 'stages'; choose from blocks, backbone"),
    ]:
        with pytest.raises(ConfigError, match=message):
            _constructor(**options)


# ---------------------------------------------------------------- layers
def _classifier(backbone: dict[str, Any]) -> Any:
    loss = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=2, loss=loss)
    return build(dict(type='GraftedClassifier', backbone=backbone, head=head))


@pytest.mark.parametrize(('third', 'count'), [(4, 6), (12, 12)])
def test_layers_counted_as_the_backbone_does(third: int, count: int) -> None:
    """The specification's six or twelve groups of a ConvNeXt, written out."""
    arch = dict(depths=[1, 2, third, 1], channels=[4, 8, 12, 16])
    model = _classifier(dict(type='mmpretrain.ConvNeXt', arch=arch))
    found = _found(model, layer_wise_decay_ratio=0.5, layer_ids='backbone')
    layer_of = {
        'backbone.downsample_layers.0.0.weight': 0,
        'backbone.stages.0.0.gamma': 1,
        'backbone.downsample_layers.1.1.weight': 2,
        'backbone.stages.1.1.gamma': 2,
        'backbone.downsample_layers.2.0.bias': 3,
        **{f'backbone.stages.2.{block}.gamma': 3 + block // 3 for block in range(third)},
        'backbone.downsample_layers.3.0.weight': count,
        'backbone.stages.3.0.gamma': count,
        'backbone.norm3.weight': count + 1,
        'head.fc.weight': count + 1,
    }
    for name, layer in layer_of.items():
        assert found[name][0] == 0.5 ** (count + 1 - layer), name
    blocks = _found(model, layer_wise_decay_ratio=0.5)
    assert blocks['backbone.stages.0.0.gamma'][0] == 0.5 ** (3 + third + 1)


def test_backbones_that_do_not_count_their_layers() -> None:
    for model in (
        Small(),
        _classifier(dict(type='mmpretrain.ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4)),
    ):
        with pytest.raises(ConfigError, match="'backbone' needs a backbone whose get_layer_depth"):
            _constructor(layer_wise_decay_ratio=0.5, layer_ids='backbone').param_groups(model)


def test_rates_over_depth_still_count_blocks() -> None:
    """``param_groups.json`` of a run: one rate per block, whatever the groups are."""
    model = _classifier(dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 4, 1], channels=[4, 8, 12, 16])))
    wrapper = _constructor(layer_wise_decay_ratio=0.5, layer_ids='backbone')(model)
    layers = _lr_over_depth(SimpleNamespace(model=model, optim_wrapper=wrapper))['layers']
    assert [layer['name'] for layer in layers] == ['stem', *(f'block {i}' for i in range(7)), 'heads']
    assert [layer['lr'] for layer in layers] == [LR * 0.5**n for n in (7, 6, 5, 4, 4, 4, 3, 1, 0)]
    json.dumps(layers)
