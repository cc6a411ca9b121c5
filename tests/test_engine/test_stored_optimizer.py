"""Optimizer states of several kinds of wrappers, compared before they are loaded."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapperDict, StepLR
from torch import nn

from mmselfsup_graft.checkpoints import check_fit
from mmselfsup_graft.engine.optimizers import AutocastOptimWrapper, DeviceOptimWrapper
from mmselfsup_graft.engine.resuming.stored_optimizer import checked_optimizer
from mmselfsup_graft.engine.resuming.stored_states import check_averages, check_state
from mmselfsup_graft.engine.resuming.stored_updates import check_options, checked_moments, initial_scale
from mmselfsup_graft.errors import CheckpointError

NAN = float('nan')


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def stepped(wrapper: Any, net: nn.Module) -> Any:
    net(torch.ones(2, 3)).sum().backward()
    for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
        each.optimizer.step()
    return wrapper


class Unknown(torch.optim.Optimizer):
    """An optimizer that cannot be made from the options of its groups."""

    def __init__(self, params: Any, model: nn.Module) -> None:
        super().__init__(params, {'lr': 0.1})

    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]['params']:
            self.state[parameter].update(mean=torch.zeros_like(parameter), count=torch.tensor(1))


def test_scaled_losses() -> None:
    net = model()
    wrapper = stepped(AutocastOptimWrapper(optimizer=torch.optim.AdamW(net.parameters())), net)
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', enabled=True)
    wrapper.loss_scaler._lazy_init_scale_growth_tracker(torch.device('cpu'))
    state = wrapper.state_dict()
    checked = checked_optimizer(state, wrapper, net, 'a.pth')
    assert checked['loss_scaler'] == {**state['loss_scaler']}
    for key, values in {
        'scale': (NAN, 'x', -1.0, 0.0, torch.zeros(2), None, float('inf'), 1e300),
        'growth_factor': (0.5, 'x'),
        'backoff_factor': (2.0, -1.0),
        'growth_interval': (0, 1.5, 'x'),
        '_growth_tracker': (-1, 'x', 0.5, 2000, 2**40),
    }.items():
        for value in values:
            damaged = {**state, 'loss_scaler': {**state['loss_scaler'], key: value}}
            with pytest.raises(CheckpointError, match=f'a.pth cannot be resumed: {key} of the loss scaler'):
                checked_optimizer(damaged, wrapper, net, 'a.pth')
    for value, message in (('x', 'is the text'), ([1], 'is a list')):
        with pytest.raises(CheckpointError, match=message):
            checked_optimizer({**state, 'loss_scaler': value}, wrapper, net, 'a.pth')


def test_options_of_the_loss_scaler_are_those_of_the_run() -> None:
    net = model()
    wrapper = stepped(AutocastOptimWrapper(optimizer=torch.optim.AdamW(net.parameters())), net)
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', growth_interval=10, growth_factor=4.0)
    state = wrapper.state_dict()
    stored = {'growth_factor': 2.0, 'backoff_factor': 0.25, 'growth_interval': 2000}
    state['loss_scaler'] = {**stored, 'scale': 8.0, '_growth_tracker': 7}
    wanted = {'scale': 8.0, 'growth_factor': 4.0, 'backoff_factor': 0.5, 'growth_interval': 10}
    assert checked_optimizer(state, wrapper, net, 'a.pth')['loss_scaler'] == {**wanted, '_growth_tracker': 7}
    state['loss_scaler']['_growth_tracker'] = 1500  # would never reach 10
    assert checked_optimizer(state, wrapper, net, 'a.pth')['loss_scaler']['_growth_tracker'] == 9


def test_a_run_without_a_loss_scaler_resumes_where_float16_needs_one() -> None:
    net = model()
    wrapper = stepped(AutocastOptimWrapper(optimizer=torch.optim.AdamW(net.parameters())), net)
    wrapper.loss_scaler = torch.amp.GradScaler('cpu')
    runner: Any = SimpleNamespace(optim_wrapper=wrapper, param_schedulers=[], model=net)
    meta, state = {'iter': 1, 'run': {}, 'loss_scalers': 1}, wrapper.state_dict()
    moments = checked_moments(runner, {'meta': meta, 'optimizer': state}, 'a.pth', False)
    assert moments['loss_scaler'] == state['loss_scaler']
    assert initial_scale(moments, wrapper) is None
    plain = {key: value for key, value in state.items() if key != 'loss_scaler'}
    for scaler in ({'loss_scaler': {}}, {}):  # of bfloat16 or a CPU, and of a run without mixed precision
        with pytest.raises(CheckpointError, match='has 0 loss scalers, expected 1'):
            checked_moments(runner, {'meta': meta, 'optimizer': {**plain, **scaler}}, 'a.pth', False)
        for count in ({'loss_scalers': 0}, {}):  # older versions stored no number
            content = {'meta': {'iter': 1, 'run': {}, **count}, 'optimizer': {**plain, **scaler}}
            moments = checked_moments(runner, content, 'a.pth', False)
            assert check_options(runner, content, moments, 'a.pth', True, False) == []
            assert initial_scale(moments, wrapper) == 2.0**16
            wrapper.load_state_dict(moments)
            assert wrapper.loss_scaler.get_scale() == 2.0**16


def test_several_optimizers() -> None:
    net: Any = model()
    parts = {
        name: DeviceOptimWrapper(optimizer=torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9))
        for name, part in (('one', net[0]), ('two', net[1]))
    }
    wrapper = stepped(OptimWrapperDict(**parts), net)
    state = wrapper.state_dict()
    assert set(checked_optimizer(state, wrapper, net, 'a.pth')) == {'one', 'two'}
    damaged = copy.deepcopy(state)
    damaged['two']['state'][0]['momentum_buffer'] = torch.zeros(4, 2)
    with pytest.raises(CheckpointError, match=r'two: momentum_buffer of 1.weight .*\(4, 2\), the run has \(2, 4\)'):
        checked_optimizer(damaged, wrapper, net, 'a.pth')
    for other in ({'one': state['one']}, {**state, 'three': state['one']}, {'one': 1, 'two': 2}):
        with pytest.raises(CheckpointError, match='optimizer'):
            checked_optimizer(other, wrapper, net, 'a.pth')


def test_an_optimizer_of_which_nothing_is_known() -> None:
    net = model()
    wrapper = stepped(DeviceOptimWrapper(optimizer=Unknown(net.parameters(), net)), net)
    state = wrapper.state_dict()
    checked_optimizer(state, wrapper, net, 'a.pth')
    for key, value in (('mean', torch.zeros(5)), ('mean', 'x'), ('count', torch.tensor(NAN)), ('count', [1])):
        damaged = copy.deepcopy(state)
        damaged['state'][1][key] = value
        with pytest.raises(CheckpointError, match=f'{key} of 0.bias'):
            checked_optimizer(damaged, wrapper, net, 'a.pth')


def test_groups_of_other_sizes_and_counts_as_numbers() -> None:
    net: Any = model()
    groups = [{'params': net[0].parameters(), 'lr': 0.1}, {'params': net[1].parameters(), 'lr': 0.2}]
    wrapper = stepped(DeviceOptimWrapper(optimizer=torch.optim.AdamW(groups)), net)
    state = wrapper.state_dict()
    older = copy.deepcopy(state)
    for entry in older['state'].values():
        entry['step'] = 1  # a number in older versions of torch
    for group in older['param_groups']:
        del group['decoupled_weight_decay']  # newer than the file
    checked = checked_optimizer(older, wrapper, net, 'a.pth')
    wrapper.load_state_dict(checked)
    assert [group['lr'] for group in wrapper.optimizer.param_groups] == [0.1, 0.2]
    stepped(wrapper, net)
    swapped = {**state, 'param_groups': state['param_groups'][::-1]}
    with pytest.raises(CheckpointError, match='has shape'):
        checked_optimizer(swapped, wrapper, net, 'a.pth')
    base = {**state, 'base_param_settings': {**state['base_param_settings'], 'lr': 'x'}}
    with pytest.raises(CheckpointError, match='lr of parameter group base is the text'):
        checked_optimizer(base, wrapper, net, 'a.pth')


@pytest.mark.parametrize('of_the_run', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('of_the_file', [torch.contiguous_format, torch.channels_last])
def test_moments_of_another_layout(of_the_file: Any, of_the_run: Any) -> None:
    """A fused step goes through parameters and moments in the order of memory: they must have one."""
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)

    def run(layout: Any, fused: bool) -> tuple[nn.Module, Any]:
        net = nn.Conv2d(4, 3, 2, bias=False)
        net.weight.data = start.clone(memory_format=layout)
        return net, DeviceOptimWrapper(torch.optim.AdamW(net.parameters(), lr=0.1, fused=fused))

    def step(net: nn.Module, wrapper: Any, gradient: torch.Tensor) -> torch.Tensor:
        (parameter,) = net.parameters()
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
        wrapper.optimizer.step()
        return parameter.detach()

    plain, file, resumed = run(torch.contiguous_format, False), run(of_the_file, False), run(of_the_run, True)
    for gradient in gradients:
        expected = step(*plain, gradient)
    (parameter,) = resumed[0].parameters()
    parameter.data.copy_(step(*file, gradients[0]))
    state = checked_optimizer(file[1].state_dict(), resumed[1], resumed[0], 'a.pth')
    resumed[1].load_state_dict(state)
    torch.testing.assert_close(step(*resumed, gradients[1]), expected)


def test_averages() -> None:
    net = model()

    class Hook:
        ema_model = nn.Module()

    Hook.ema_model.module = model()
    Hook.ema_model.register_buffer('steps', torch.tensor(0))
    good = {'steps': torch.tensor(3), **{f'module.{name}': value for name, value in net.state_dict().items()}}
    check_averages({'meta': {}, 'ema_state_dict': good}, [Hook()], 'a.pth', net)
    for name, value, message in (
        ('module.0.weight', torch.zeros(1), r'module.0.weight has shape \(1,\)'),
        ('module.0.weight', torch.full((4, 3), NAN), 'module.0.weight holds NaN'),
        ('module.0.weight', 'x', 'is the text'),
        ('other', torch.zeros(1), 'other is not in the model'),
        ('steps', torch.tensor(-5), 'has -5 steps, expected 0 to'),
        ('steps', torch.tensor(2**62), f'has {2**62} steps'),
    ):
        with pytest.raises(CheckpointError, match=message):
            check_averages({'meta': {}, 'ema_state_dict': {**good, name: value}}, [Hook()], 'a.pth', net)
    check_averages({'meta': {'average_steps': 3}, 'ema_state_dict': good}, [Hook()], 'a.pth', net)
    for wanted in (2, 4, '3', 3.0, None):
        with pytest.raises(CheckpointError, match=r'has 3 steps, expected .* \(meta\.average_steps'):
            check_averages({'meta': {'average_steps': wanted}, 'ema_state_dict': good}, [Hook()], 'a.pth', net)
    for content, hooks in (({}, [Hook()]), ({'ema_state_dict': good}, [])):
        with pytest.raises(CheckpointError, match='average of the weights'):
            check_averages(content, hooks, 'a.pth', net)


def test_buffers() -> None:
    own = {
        'bn.running_mean': torch.zeros(2),
        'bn.running_var': torch.ones(2),
        'bn.num_batches_tracked': torch.tensor(3),
        'mask': torch.full((2,), -float('inf')),
        'attn.relative_position_index': torch.arange(4),
    }
    other = {'bn.running_mean': torch.ones(2), 'bn.num_batches_tracked': torch.tensor(9), 'mask': torch.full((2,), NAN)}
    check_state({**own, **other}, own, 'a.pth', True)
    for name, value, message in (
        ('bn.running_mean', torch.tensor([NAN, 0.0]), 'holds NaN or infinity'),
        ('bn.running_var', torch.tensor([1.0, -1.0]), 'is negative'),
        ('bn.num_batches_tracked', torch.tensor(-1), 'is negative'),
        ('attn.relative_position_index', torch.tensor([0, 1, 2, 400]), 'differs from that of the model'),
    ):
        with pytest.raises(CheckpointError, match=f'{name} {message}'):
            check_state({**own, name: value}, own, 'a.pth', True)
        with pytest.raises(CheckpointError, match=f'{name} (holds NaN or inf|{message})'):
            check_fit('a.pth', {**own, name: value}, own)


def test_options_and_steps_of_several_optimizers() -> None:
    net: Any = model()
    parts = {
        name: DeviceOptimWrapper(optimizer=torch.optim.AdamW(part.parameters(), lr=0.1))
        for name, part in (('one', net[0]), ('two', net[1]))
    }
    wrapper = stepped(OptimWrapperDict(**parts), net)
    own = {name: [StepLR(each, step_size=1)] for name, each in parts.items()}
    runner: Any = SimpleNamespace(optim_wrapper=wrapper, param_schedulers=own, model=net)
    content: dict[str, Any] = {
        'optimizer': wrapper.state_dict(),
        'meta': {'iter': 1, 'run': {}},
        'param_schedulers': {name: [dict(each.state_dict()) for each in many] for name, many in own.items()},
    }

    def check(content: dict[str, Any], anyway: bool = False) -> list[str]:
        moments = checked_moments(runner, content, 'a.pth', anyway)
        return check_options(runner, content, moments, 'a.pth', False, anyway)

    assert check(content) == []
    for path, value, message in (
        (('optimizer', 'two', 'param_groups', 0, 'eps'), 1.0, 'eps of parameter group 0 was 1.0, now it is 1e-08'),
        (('optimizer', 'one', 'param_groups', 0, 'lr'), 0.2, 'lr of parameter group 0 was 0.2, the schedule'),
        (('param_schedulers', 'two', 0, 'gamma'), 9.0, 'gamma of schedule 0 was 9.0, now it is 0.1'),
    ):
        damaged = copy.deepcopy(content)
        *way, last = path
        part: Any = damaged
        for each in way:
            part = part[each]
        part[last] = value
        with pytest.raises(CheckpointError, match=message):
            check(damaged)
        assert len(check(damaged, anyway=True)) == 1
    steps = copy.deepcopy(content)
    steps['optimizer']['two']['state'][0]['step'] = torch.tensor(3.0)
    assert check(steps) == []  # a version that noted no steps; the second may step more often than the first
    steps['meta']['optimizer_steps'] = 2
    with pytest.raises(CheckpointError, match=r'two: step of 1\.weight .* is 3, expected at most 2'):
        check(steps)
