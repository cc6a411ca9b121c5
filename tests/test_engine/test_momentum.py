"""MomentumScheduleHook: cosine over iterations, one update per optimizer step."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import build, moco_config
from mmengine.optim import OptimWrapper
from reference.moco import config as config_of_moco
from torch import nn

from mmselfsup_graft.engine import MomentumScheduleHook
from mmselfsup_graft.engine.hooks import cosine_momentum
from mmselfsup_graft.errors import ConfigError


def _runner(model: Any, max_iters: int, accumulate: int = 1) -> SimpleNamespace:
    parameters = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(parameters, lr=0.05), accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, max_iters)
    return SimpleNamespace(model=model, iter=0, max_iters=max_iters, optim_wrapper=wrapper)


def _toy() -> nn.Module:
    model = nn.Linear(1, 1)
    model.base_momentum = 0.9
    return model


def test_cosine() -> None:
    assert cosine_momentum(0.99, 0.0) == 0.99
    assert cosine_momentum(0.99, 0.5) == pytest.approx(0.995)
    assert cosine_momentum(0.99, 1.0) == 1.0
    runner, hook = _runner(_toy(), 7), MomentumScheduleHook()
    hook.before_train(runner)
    for runner.iter in range(7):
        hook.before_train_iter(runner, runner.iter)
        expected = 1 - 0.1 * (1 + math.cos(math.pi * runner.iter / 7)) / 2
        assert runner.model.momentum == pytest.approx(expected, rel=1e-14)
        assert runner.model.update_due is True


def test_constant() -> None:
    runner = _runner(_toy(), 7)
    runner.iter = 4
    hook = MomentumScheduleHook(cosine=False)
    hook.before_train(runner)
    hook.before_train_iter(runner, 4)
    assert runner.model.momentum == 0.9


def test_wrapped_model() -> None:
    from mmengine.model import MMDistributedDataParallel

    wrapped = object.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = _toy()
    runner = _runner(wrapped, 4)
    hook = MomentumScheduleHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert wrapped.module.momentum == 0.9


def test_parts_of_a_model() -> None:
    model = nn.ModuleDict({'a': _toy(), 'b': nn.Linear(1, 1), 'c': _toy()})
    runner, hook = _runner(model, 4), MomentumScheduleHook(cosine=False)
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    assert [model[name].momentum for name in 'ac'] == [0.9, 0.9]
    assert not hasattr(model['b'], 'momentum')


def test_a_model_without_momentum_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match='Linear has no momentum encoder'):
        MomentumScheduleHook().before_train(_runner(nn.Linear(1, 1), 4))


@pytest.mark.parametrize('accumulate', [1, 3])
def test_one_update_per_optimizer_step(accumulate: int) -> None:
    """The moving average moves at the first micro-batch of a step, when the weights have just changed."""
    model = build(moco_config(base_momentum=0.5)).train()
    model.init_weights()
    runner, hook = _runner(model, 6, accumulate), MomentumScheduleHook(cosine=False)
    changed, stepped = [], []
    hook.before_train(runner)
    for runner.iter in range(6):
        hook.before_train_iter(runner, runner.iter)
        average = model.momentum_encoder.neck.fc0.weight.clone()
        weights = model.neck.fc0.weight.detach().clone()
        views = [torch.randn(4, 3, 16, 16) for _ in range(2)]
        runner.optim_wrapper.update_params(model.loss(views)['loss'])
        changed.append(not torch.equal(average, model.momentum_encoder.neck.fc0.weight))
        stepped.append(not torch.equal(weights, model.neck.fc0.weight))
    assert stepped == [(i + 1) % accumulate == 0 for i in range(6)]
    # at iteration 0 both encoders are equal, so an update changes nothing
    assert changed == [i > 0 and i % accumulate == 0 for i in range(6)]


def test_every_method_has_its_own_schedule() -> None:
    """MoCo v1 and v2 keep their momentum, alone or as one objective of several."""
    parts = {'moco': build(config_of_moco()), 'mocov3': build(moco_config(base_momentum=0.9))}
    model = nn.ModuleDict(parts)
    for cosine, expected in ((None, [0.9, 0.95]), (True, [0.95, 0.95]), (False, [0.9, 0.9])):
        runner, hook = _runner(model, 8), MomentumScheduleHook(cosine=cosine)
        runner.iter = 4
        hook.before_train(runner)
        hook.before_train_iter(runner, 4)
        assert [part.momentum for part in parts.values()] == pytest.approx(expected)
    with pytest.raises(ConfigError, match='cosine must be True, False or None'):
        MomentumScheduleHook(cosine='yes')
