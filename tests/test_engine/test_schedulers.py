"""WarmupCosineLR as mmengine builds it: closed form per iteration, resuming."""

import math
from typing import Any

import pytest
import torch
from helpers import assert_close

from mmselfsup_graft.engine import WarmupCosineLR
from mmselfsup_graft.engine.schedulers import step_fix_cosine, warmup_cosine_factor
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import PARAM_SCHEDULERS

PEAKS, PER_EPOCH, EPOCHS, WARMUP = (0.8, 0.08), 5, 6, 2


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([{'params': [torch.zeros(1, requires_grad=True)], 'lr': lr} for lr in PEAKS], lr=1.0)


def _build(optimizer: torch.optim.Optimizer, **options: Any) -> WarmupCosineLR:
    """As the runner does: a config in epochs, converted to iterations."""
    config = {
        'type': 'WarmupCosineLR',
        'warmup': WARMUP,
        'end': EPOCHS,
        'convert_to_iter_based': True,
        **options,
    }
    return PARAM_SCHEDULERS.build(config, default_args={'optimizer': optimizer, 'epoch_length': PER_EPOCH})


def _lrs(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group['lr'] for group in optimizer.param_groups]


def _closed_form(iteration: int, min_ratio: float = 0.0) -> float:
    epoch = min(iteration / PER_EPOCH, EPOCHS)
    if epoch < WARMUP:
        return epoch / WARMUP
    cosine = 0.5 * (1 + math.cos(math.pi * (epoch - WARMUP) / (EPOCHS - WARMUP)))
    return min_ratio + (1 - min_ratio) * cosine


@pytest.mark.parametrize('min_ratio', [0.0, 0.25])
def test_values_at_every_iteration(min_ratio: float) -> None:
    optimizer = _optimizer()
    schedule = _build(optimizer, min_ratio=min_ratio)
    assert not schedule.by_epoch
    for iteration in range(EPOCHS * PER_EPOCH):
        expected = [peak * _closed_form(iteration, min_ratio) for peak in PEAKS]
        assert_close(_lrs(optimizer), expected, rtol=1e-13, name=f'iteration {iteration}')
        optimizer.step()
        schedule.step()
    assert _closed_form(0) == 0.0
    assert _closed_form(WARMUP * PER_EPOCH) == 1.0


@pytest.mark.parametrize('stop', [1, 9, 10, 17, 29])
def test_resumed_schedule_is_bit_equal(stop: int) -> None:
    optimizer, resumed_optimizer = _optimizer(), _optimizer()
    schedule, resumed = _build(optimizer), _build(resumed_optimizer)
    for _ in range(stop):
        optimizer.step()
        schedule.step()
    resumed.load_state_dict(schedule.state_dict())
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    for _ in range(stop, EPOCHS * PER_EPOCH):
        assert _lrs(resumed_optimizer) == _lrs(optimizer)
        for opt, sched in ((optimizer, schedule), (resumed_optimizer, resumed)):
            opt.step()
            sched.step()
    assert _lrs(resumed_optimizer) == _lrs(optimizer)


# ---------------------------------------------------------------- A2MIM's variant
@pytest.mark.parametrize('cosine_in_warmup', [False, True])
def test_floor_that_all_groups_share(cosine_in_warmup: bool) -> None:
    floor = 0.05
    optimizer = _optimizer()
    schedule = _build(optimizer, min_lr=floor, cosine_in_warmup=cosine_in_warmup)
    for iteration in range(EPOCHS * PER_EPOCH):
        epoch = iteration / PER_EPOCH
        progress = (epoch - WARMUP) / (EPOCHS - WARMUP)
        falling = [floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress)) for peak in PEAKS]
        rising = [value * epoch / WARMUP for value in (falling if cosine_in_warmup else PEAKS)]
        assert_close(_lrs(optimizer), rising if epoch < WARMUP else falling, rtol=1e-13, name=f'iteration {iteration}')
        optimizer.step()
        schedule.step()
    ends = [step_fix_cosine(EPOCHS, WARMUP, EPOCHS, peak, floor) for peak in PEAKS]
    assert_close(ends, [floor, floor], rtol=1e-13)


def test_share_as_floor_with_the_cosine_in_the_warmup() -> None:
    optimizer = _optimizer()
    schedule = _build(optimizer, min_ratio=0.25, cosine_in_warmup=True)
    for iteration in range(EPOCHS * PER_EPOCH):
        place = (iteration, WARMUP * PER_EPOCH, EPOCHS * PER_EPOCH)
        assert_close(_lrs(optimizer), [step_fix_cosine(*place, peak, 0.25 * peak) for peak in PEAKS], rtol=1e-13)
        optimizer.step()
        schedule.step()


def test_a_group_without_rate_and_one_below_the_floor() -> None:
    groups = [{'params': [torch.zeros(1, requires_grad=True)], 'lr': lr} for lr in (0.0, 1e-3)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    schedule = _build(optimizer, min_lr=1e-2)
    for _ in range(EPOCHS * PER_EPOCH):
        optimizer.step()
        schedule.step()
    assert _lrs(optimizer)[0] == 0.0
    assert 9e-3 < _lrs(optimizer)[1] < 1e-2


def test_one_floor_only() -> None:
    with pytest.raises(ConfigError, match='give min_ratio or min_lr, not both'):
        _build(_optimizer(), min_ratio=0.0, min_lr=0.0)
    with pytest.raises(ConfigError, match='min_lr=-1e-05 must be at least 0'):
        _build(_optimizer(), min_lr=-1e-5)


def test_by_epoch() -> None:
    optimizer = _optimizer()
    schedule = WarmupCosineLR(optimizer, warmup=WARMUP, end=EPOCHS)
    for epoch in range(EPOCHS):
        assert_close(_lrs(optimizer), [peak * _closed_form(epoch * PER_EPOCH) for peak in PEAKS], rtol=1e-13)
        optimizer.step()
        schedule.step()


def test_no_warmup_and_beyond_the_end() -> None:
    assert warmup_cosine_factor(0, 0, 10) == 1.0
    assert warmup_cosine_factor(12, 2, 10) == warmup_cosine_factor(10, 2, 10) == 0.0
    assert warmup_cosine_factor(12, 2, 10, 0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(('warmup', 'end'), [(6, 6), (7, 6), (-1, 6)])
def test_warmup_must_end_before_the_schedule(warmup: int, end: int) -> None:
    with pytest.raises(ConfigError, match=f'warmup={warmup} must be at least 0 and less than end={end}'):
        WarmupCosineLR(_optimizer(), warmup=warmup, end=end)


def test_conversion_needs_epochs() -> None:
    with pytest.raises(ConfigError, match='by_epoch=True'):
        WarmupCosineLR.build_iter_from_epoch(_optimizer(), warmup=1, end=2, by_epoch=False, epoch_length=3)
    with pytest.raises(ConfigError, match='known epoch length'):
        WarmupCosineLR.build_iter_from_epoch(_optimizer(), warmup=1, end=2)
