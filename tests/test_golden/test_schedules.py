"""Learning-rate and momentum schedules at fractional epochs."""

from typing import Any

import torch
from golden_sets import golden, some
from helpers import assert_close

from mmselfsup_graft.engine import WarmupCosineLR
from mmselfsup_graft.engine.hooks import cosine_momentum
from mmselfsup_graft.engine.schedulers import warmup_cosine_factor

FILE = 'schedules.json'


def _cases(column: str) -> dict[str, Any]:
    """The cases that record a column of numbers per epoch."""
    cases = {name: case for name, case in golden(FILE).items() if isinstance(case.get(column), list)}
    assert all(len(some(case['epoch'], 'epochs')) == len(case[column]) for case in some(cases, 'cases').values())
    return cases


def _pretraining() -> dict[str, Any]:
    return {name: case for name, case in _cases('lr').items() if 'peak_lr' in case}


def _whole_steps(epochs: list[float]) -> int:
    """Iterations per epoch at which most of the recorded epochs are whole iterations; the fewest of them."""
    return max(range(1, 21), key=lambda steps: (sum(float(epoch * steps).is_integer() for epoch in epochs), -steps))


def test_pretraining_learning_rate() -> None:
    for name, case in some(_pretraining(), 'cases').items():
        peak = case['base_lr'] * case['batch_size'] / 256
        assert_close(peak, case['peak_lr'], rtol=1e-14, name=f'{name}: peak')
        for epoch, expected in zip(case['epoch'], case['lr'], strict=True):
            ours = peak * warmup_cosine_factor(epoch, case['warmup_epochs'], case['epochs'])
            # at the end the cosine cancels to rounding noise of the peak
            assert_close(ours, expected, rtol=1e-12, atol=1e-15 * peak, name=f'{name}: epoch {epoch}')
        assert warmup_cosine_factor(0, case['warmup_epochs'], case['epochs']) == 0.0


def test_pretraining_learning_rate_set_by_the_scheduler() -> None:
    """The registered scheduler, stepped per iteration, passes through the recorded values."""
    for name, case in some(_pretraining(), 'cases').items():
        per_epoch = _whole_steps(case['epoch'])  # other recorded epochs are left to the test above
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=case['peak_lr'])
        schedule = WarmupCosineLR.build_iter_from_epoch(
            optimizer, warmup=case['warmup_epochs'], end=case['epochs'], epoch_length=per_epoch
        )
        wanted = {e * per_epoch: v for e, v in zip(case['epoch'], case['lr']) if float(e * per_epoch).is_integer()}
        some(wanted, 'iterations')
        for iteration in range(case['epochs'] * per_epoch):
            if iteration in wanted:
                seen = optimizer.param_groups[0]['lr']
                assert_close(seen, wanted[iteration], rtol=1e-12, name=f'{name}: iteration {iteration}')
            optimizer.step()
            schedule.step()


def test_momentum() -> None:
    for name, case in _cases('m').items():
        for epoch, expected in zip(case['epoch'], case['m'], strict=True):
            ours = cosine_momentum(case['moco_m'], epoch / case['epochs'])
            assert_close(ours, expected, rtol=1e-14, name=f'{name}: epoch {epoch}')


def test_finetuning_learning_rate() -> None:
    for name, case in _cases('lr_values').items():
        for epoch, expected in zip(case['epoch'], case['lr_values'], strict=True):
            ours = case['lr'] * warmup_cosine_factor(epoch, case['warm'], case['epochs'], case['min_lr'] / case['lr'])
            assert_close(ours, expected, rtol=1e-12, name=f'{name}: epoch {epoch}')
