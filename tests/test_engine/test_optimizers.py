"""Layer-wise learning rates, LARS and autocast as mmengine uses them."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_close, build, moco_config, vit_config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmselfsup_graft.engine import LARS, AutocastOptimWrapper, DeviceOptimWrapper, LayerWiseLRConstructor
from mmselfsup_graft.engine.optimizers import autocast
from mmselfsup_graft.engine.optimizers.layer_wise_lr import groups_table, scales_from_decay, scales_from_list
from mmselfsup_graft.errors import CheckpointError, ConfigError

ADAMW = {'type': 'AdamW', 'lr': 2.0, 'weight_decay': 0.1}


def _constructor(**options: Any) -> LayerWiseLRConstructor:
    return LayerWiseLRConstructor({'optimizer': dict(ADAMW)}, options)


@pytest.fixture(scope='module')
def model() -> Any:
    """MoCo v3 of four blocks."""
    return build(moco_config(vit_config(depth=4, stop_grad_patch_embed=True)))


# ---------------------------------------------------------------- scales
def test_scales() -> None:
    assert scales_from_list([1.0, 3.0], 4) == [1.0, 1.0, 1.0, 3.0, 3.0, 3.0]
    assert scales_from_list([7.0], 2) == [7.0] * 4
    assert scales_from_decay(0.5, 2) == [0.125, 0.25, 0.5, 1.0]


@pytest.mark.parametrize('values', [[1.0, 2.0, 3.0], [], [1.0] * 5])
def test_list_that_does_not_divide_the_depth(model: Any, values: list[float]) -> None:
    with pytest.raises(ConfigError, match=rf'has {len(values)} values, which do not divide the 4 blocks'):
        _constructor(lr_layer_wise=values).param_groups(model)


def test_other_mistakes(model: Any) -> None:
    with pytest.raises(ConfigError, match='negative'):
        _constructor(lr_layer_wise=[1.0, -1.0]).param_groups(model)
    for ratio in (0.0, 1.5, -0.1):
        with pytest.raises(ConfigError, match=rf'must be in \(0, 1\], got {ratio}'):
            _constructor(layer_wise_decay_ratio=ratio).param_groups(model)
    with pytest.raises(ConfigError, match="unknown key 'lr_layerwise'"):
        _constructor(lr_layerwise=[1.0])
    with pytest.raises(ConfigError, match='not both'):
        _constructor(lr_layer_wise=[1.0], layer_wise_decay_ratio=0.5)


# ---------------------------------------------------------------- groups
def _by_name(groups: list[dict]) -> dict[str, dict]:
    names = [name for group in groups for name in group['param_names']]
    assert len(names) == len(set(names)), 'no parameter is in two groups'
    return {name: group for group in groups for name in group['param_names']}


def test_every_trainable_parameter_once(model: Any) -> None:
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    for options in ({}, {'no_decay_1d': True}, {'lr_layer_wise': [0.1, 1.0]}, {'layer_wise_decay_ratio': 0.5}):
        assert set(_by_name(_constructor(**options).param_groups(model))) == trainable


def test_without_options_there_is_one_group(model: Any) -> None:
    groups = _constructor().param_groups(model)
    assert [(g['lr'], g['weight_decay'], g['lr_scale']) for g in groups] == [(2.0, 0.1, 1.0)]


def test_fine_tuning_options(model: Any) -> None:
    """The head is a group of its own with a factor; named tensors are not decayed, others keep their rule."""
    options = {'layer_wise_decay_ratio': 0.5, 'head_lr_scale': 3, 'no_decay_names': ['cls_token']}
    found = _by_name(_constructor(**options).param_groups(model))
    plain = _constructor(layer_wise_decay_ratio=0.5).param_groups(model)
    for name, group in _by_name(plain).items():
        factor = 3.0 if name.startswith('head.') else 1.0
        assert found[name]['lr'] == pytest.approx(factor * group['lr'], rel=1e-12), name
        assert set(group['layer_ids']) >= set(found[name]['layer_ids'])
        assert found[name]['weight_decay'] == (0.0 if name == 'backbone.cls_token' else group['weight_decay'])
    assert plain[0]['weight_decay'] == ADAMW['weight_decay'] != found['backbone.cls_token']['weight_decay']
    assert len({id(group) for name, group in found.items() if name.startswith('head.')}) == 2
    everything = _constructor(head_lr_scale=0.5).param_groups(model)
    assert [group['lr'] for group in everything] == [2.0, 1.0]


@pytest.mark.parametrize('value', [0, -1.0, '10', True])
def test_a_factor_of_the_head_is_a_positive_number(value: Any) -> None:
    with pytest.raises(ConfigError, match='head_lr_scale must be a number > 0'):
        _constructor(head_lr_scale=value)


def test_names_without_decay_are_a_list() -> None:
    with pytest.raises(ConfigError, match="no_decay_names takes a list of names, got 'cls_token'"):
        _constructor(no_decay_names='cls_token')


def test_no_decay_1d(model: Any) -> None:
    groups = _constructor(no_decay_1d=True).param_groups(model)
    assert [(g['lr'], g['weight_decay']) for g in groups] == [(2.0, 0.1), (2.0, 0.0)]
    for name, group in _by_name(groups).items():
        one_dimensional = dict(model.named_parameters())[name].ndim <= 1
        assert (group['weight_decay'] == 0.0) == one_dimensional, name
    assert 'backbone.cls_token' in groups[0]['param_names'], 'the class token is decayed'


def test_list(model: Any) -> None:
    groups = _by_name(_constructor(lr_layer_wise=[0.1, 1.0]).param_groups(model))
    assert groups['backbone.cls_token']['lr'] == pytest.approx(0.2)
    assert groups['backbone.layers.1.ln1.weight']['lr'] == pytest.approx(0.2)
    assert groups['backbone.layers.2.attn.qkv.weight']['lr'] == pytest.approx(2.0)
    for name in ('backbone.ln1.weight', 'neck.fc0.weight', 'head.predictor.fc0.weight'):
        assert groups[name]['lr'] == pytest.approx(2.0)


def test_table(model: Any) -> None:
    groups = _constructor(lr_layer_wise=[0.1, 1.0]).param_groups(model)
    lines = groups_table(groups).splitlines()
    assert lines[0] == 'parameter groups'
    assert lines[1].split() == ['layers', 'lr', 'scale', 'decay', 'tensors', 'params']
    assert len(lines) == 2 + len(groups)
    rows = [row.split()[:4] for row in lines[2:]]
    assert rows == [
        ['0-2', '2.000e-01', '0.1', '0.1'],
        ['1-2', '2.000e-01', '0.1', '0'],
        ['3-5', '2.000e+00', '1', '0.1'],
        ['3-5', '2.000e+00', '1', '0'],
    ]
    sizes = sum(int(line.split()[5].replace(',', '')) for line in lines[2:])
    assert sizes == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_built_through_mmengine(model: Any) -> None:
    wrapper = build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'optimizer': dict(ADAMW),
            'constructor': 'LayerWiseLRConstructor',
            'paramwise_cfg': {'layer_wise_decay_ratio': 0.5},
            'accumulative_counts': 2,
        },
    )
    assert isinstance(wrapper, OptimWrapper)
    assert type(wrapper) is DeviceOptimWrapper
    assert wrapper._accumulative_counts == 2
    groups = wrapper.optimizer.param_groups
    assert {g['lr'] for g in groups} == {2.0 * 0.5 ** (5 - layer) for layer in range(6)}
    assert sum(len(g['params']) for g in groups) == sum(p.requires_grad for p in model.parameters())
    assert 'param_names' not in groups[0]


def test_state_of_the_optimizer_can_be_read_safely(model: Any, tmp_path: Path) -> None:
    wrapper = _constructor(lr_layer_wise=[0.1, 1.0])(model)
    torch.save(wrapper.state_dict(), tmp_path / 'state.pth')
    wrapper.load_state_dict(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert wrapper.optimizer.param_groups[0]['lr_scale'] == 0.1


def test_a_checkpoint_with_other_groups_is_refused(model: Any) -> None:
    saved = _constructor(layer_wise_decay_ratio=0.5)(model).state_dict()
    with pytest.raises(CheckpointError, match=r'has 1\d parameter groups of (\d+) tensors.* this run has 4 of \1'):
        _constructor(lr_layer_wise=[0.1, 1.0])(model).load_state_dict(saved)


# ---------------------------------------------------------------- LARS
def test_lars_leaves_zero_norms_unscaled_and_runs_closures() -> None:
    weight = torch.zeros(2, 2, requires_grad=True)
    optimizer = LARS([weight], lr=0.5, momentum=0.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (weight * torch.arange(4.0).view(2, 2)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0.0
    assert_close(weight, -0.5 * torch.arange(4.0).view(2, 2), rtol=1e-6)
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(weight, before), 'no gradient, no decay, no step'


def test_lars_state_round_trip() -> None:
    weights = [torch.ones(2, 3, requires_grad=True) for _ in range(2)]
    first, second = (LARS([w], lr=0.1, weight_decay=0.01) for w in weights)
    weights[0].grad = torch.full((2, 3), 0.3)
    first.step()
    with torch.no_grad():
        weights[1].copy_(weights[0])
    second.load_state_dict(deepcopy(first.state_dict()))  # a state dict shares its tensors
    for optimizer, weight in ((first, weights[0]), (second, weights[1])):
        weight.grad = torch.full((2, 3), -0.2)
        optimizer.step()
    assert torch.equal(weights[0], weights[1])


class Calls(TorchDispatchMode):
    """Counts calls of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 'detach' not in str(func) and 'unbind' not in str(func)
        return func(*args, **(kwargs or {}))


def _plain_lars(parameter: torch.Tensor, mu: torch.Tensor, options: dict[str, float]) -> None:
    """One step of LARS on one tensor, by the definition."""
    update = parameter.grad
    if parameter.ndim > 1:
        update = update + options['weight_decay'] * parameter
        size, norm = parameter.norm(), update.norm()
        update = update * (options['trust_coefficient'] * size / norm if size > 0 and norm > 0 else 1.0)
    mu.mul_(options['momentum']).add_(update)
    parameter.sub_(options['lr'] * mu)


def test_lars_of_many_tensors_is_that_of_each_and_takes_few_calls() -> None:
    torch.manual_seed(0)
    kinds = [torch.float64, torch.float32]
    shapes = [(), (3,), (4, 3), (2, 3, 2, 2), (5, 1)]
    start = [torch.randn(s, dtype=k) for k in kinds for s in shapes] + [torch.zeros(2, 2, dtype=torch.float64)]
    options = dict(lr=0.3, weight_decay=0.1, momentum=0.9, trust_coefficient=0.02)
    ours, plain = ([each.clone().requires_grad_() for each in start] for _ in range(2))
    unused = torch.ones(3, 3, requires_grad=True)
    optimizer, averages = LARS([*ours, unused], **options), [torch.zeros_like(each) for each in plain]
    for _ in range(3):
        for one, other in zip(ours, plain):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        optimizer.step()
        with torch.no_grad():
            for parameter, mu in zip(plain, averages):
                _plain_lars(parameter, mu, options)
    for one, other in zip(ours, plain):
        assert_close(one, other, rtol=1e-13 if one.dtype == torch.float64 else 1e-6)
    assert torch.equal(unused, torch.ones(3, 3))

    weights = [torch.randn(4, 4, requires_grad=True) for _ in range(100)]
    optimizer = LARS(weights, **options)
    for weight in weights:
        weight.grad = torch.randn(4, 4)
    optimizer.step()
    with Calls() as calls:
        optimizer.step()
    assert calls.count < 20, 'however many tensors there are'


# ---------------------------------------------------------------- fused
@pytest.mark.parametrize(
    ('options', 'fused'),
    [
        (dict(type='AdamW'), True),
        (dict(type='SGD', momentum=0.9), True),
        (dict(type='AdamW', foreach=True), None),
        (dict(type='AdamW', fused=False), False),
        (dict(type='RMSprop'), None),
        (dict(type='LARS'), None),
    ],
)
def test_optimizers_are_fused_where_that_is_left_open(model: Any, options: dict[str, Any], fused: bool | None) -> None:
    wrapper = LayerWiseLRConstructor({'optimizer': {'lr': 0.1, **options}})(model)
    assert wrapper.optimizer.param_groups[0].get('fused') == fused
    assert type(wrapper.optimizer).__name__ == options['type']


def test_fused_is_the_same_optimizer_up_to_rounding() -> None:
    found = []
    for choice in ({}, {'fused': False, 'foreach': False}):
        torch.manual_seed(0)
        layer = nn.Linear(6, 5).double()
        layer.backbone = build(vit_config(depth=2))  # asked for its depth
        optimizer = LayerWiseLRConstructor({'optimizer': {**ADAMW, 'lr': 0.1, **choice}})(layer).optimizer
        for _ in range(5):
            for parameter in layer.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        found.append(layer)
    assert_close(found[0].weight, found[1].weight, rtol=1e-12)


@pytest.mark.parametrize('choices', [({}, {'fused': False}), ({'fused': False}, {}), ({}, {'foreach': True})])
def test_a_resumed_optimizer_is_fused_if_its_own_config_says_so(choices: tuple[dict, dict]) -> None:
    wrappers = []
    for choice in choices:
        layer = nn.Linear(6, 5)
        layer.backbone = build(vit_config(depth=2))
        wrappers.append(LayerWiseLRConstructor({'optimizer': {**ADAMW, 'lr': 0.1, **choice}})(layer))
        layer(torch.ones(1, 6)).sum().backward()
        wrappers[-1].step()
    saved, resumed = wrappers
    wanted = [(group['fused'], group['foreach']) for group in resumed.optimizer.param_groups]
    resumed.load_state_dict(saved.state_dict())
    assert [(group['fused'], group['foreach']) for group in resumed.optimizer.param_groups] == wanted
    resumed.step()
    assert {state['step'].item() for state in resumed.optimizer.state.values()} == {2}


# ---------------------------------------------------------------- autocast
@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without GPU."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


def _wrapper(layer: nn.Module, **kwargs: Any) -> AutocastOptimWrapper:
    return AutocastOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1), **kwargs)


@pytest.mark.parametrize('native', [torch.bfloat16, None])
def test_autocast_takes_what_the_machine_has(
    on_cpu: None, monkeypatch: pytest.MonkeyPatch, native: torch.dtype | None
) -> None:
    monkeypatch.setattr(autocast, 'half_precision_here', lambda: native)
    layer, inputs = nn.Linear(4, 2), torch.randn(3, 4)
    wrapper = _wrapper(layer)
    start = layer.weight.detach().clone()
    with wrapper.optim_context(layer):
        output = layer(inputs)
    assert output.dtype == (native or torch.float32)
    assert layer(inputs).dtype == torch.float32, 'autocast ends with the context'
    loss = output.float().square().mean()
    expected = torch.autograd.grad(loss, layer.weight, retain_graph=True)[0]
    wrapper.update_params(loss)
    assert layer.weight.dtype == torch.float32
    assert_close(layer.weight, start - 0.1 * expected, rtol=1e-6)


def test_autocast_clips_gradients(on_cpu: None) -> None:
    layer = nn.Linear(4, 2)
    start = [p.detach().clone() for p in layer.parameters()]
    wrapper = _wrapper(layer, dtype='bfloat16', clip_grad={'max_norm': 1.0})
    with wrapper.optim_context(layer):
        loss = 1000 * layer(torch.randn(3, 4)).float().square().sum()
    wrapper.update_params(loss)
    moved = torch.cat([(p - s).flatten() for p, s in zip(layer.parameters(), start)])
    assert_close(moved.norm(), 0.1, rtol=1e-4)


def test_autocast_accumulates(on_cpu: None) -> None:
    layer, inputs = nn.Linear(4, 2), torch.randn(2, 3, 4)
    start = layer.weight.detach().clone()
    wrapper = _wrapper(layer, dtype='bfloat16', accumulative_counts=2)
    wrapper.initialize_count_status(layer, 0, 2)
    for index, batch in enumerate(inputs):
        assert torch.equal(layer.weight, start), f'no step before micro-batch {index}'
        with wrapper.optim_context(layer):
            loss = layer(batch).float().mean()
        wrapper.update_params(loss)
    assert not torch.equal(layer.weight, start)


def test_autocast_state_round_trip(on_cpu: None) -> None:
    first, second = (_wrapper(nn.Linear(4, 2), dtype='bfloat16') for _ in range(2))
    first.param_groups[0]['lr'] = 0.7
    state = first.state_dict()
    assert 'loss_scaler' in state
    second.load_state_dict(state)
    assert second.param_groups[0]['lr'] == 0.7
    assert 'loss_scaler' in state, 'the given dict is not changed'


def test_autocast_refusals(on_cpu: None) -> None:
    with pytest.raises(ConfigError, match='float16 training needs a GPU'):
        _wrapper(nn.Linear(1, 1), dtype='float16')
    with pytest.raises(ConfigError, match="got 'fp16'"):
        _wrapper(nn.Linear(1, 1), dtype='fp16')


def test_whole_model_under_autocast(on_cpu: None) -> None:
    model = build(moco_config()).train()
    model.init_weights()
    wrapper = AutocastOptimWrapper(
        optimizer=torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3), dtype='bfloat16'
    )
    views = [torch.randn(4, 3, 16, 16) for _ in range(2)]
    with torch.no_grad():
        model.update_due = False
        exact = model.loss(views)['loss']
    with wrapper.optim_context(model):
        loss = model.loss(views)['loss']
    assert loss.dtype == torch.float32
    assert_close(loss, exact, rtol=0.1)
    wrapper.update_params(loss)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize('option', ['no_decay_names', 'full_rate_names'])
def test_a_misspelled_name_of_a_parameter(option: str, model: Any) -> None:
    with pytest.raises(ConfigError, match=r"'cls_tokn', which names no parameter .*'cls_token'"):
        _constructor(**{option: ['cls_tokn']})(model)
    _constructor(**{option: ['cls_token', 'mask_gamma']})(model)  # lists serve several models
