"""Schedules of a run that is resumed with another length: those of its config, advanced to the current iteration."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.optim import _ParamScheduler

from mmselfsup_graft.engine.schedulers.warmup_cosine import WarmupCosineLR

from .stored_values import is_number

_LENGTHS = ('begin', 'end', 'total', 'total_iters', 'warmup', 'T_max', 'step_size', 'milestones')


def other_lengths(saved: Sequence[Mapping[str, Any]], own: Sequence[_ParamScheduler]) -> bool:
    """Whether stored schedules differ from those of the run in length or number."""
    if len(saved) != len(own):
        return True
    return any(
        key in state and _is_other_length(state[key], getattr(scheduler, key))
        for state, scheduler in zip(saved, own)
        for key in _LENGTHS
        if hasattr(scheduler, key)
    )


def _is_other_length(given: Any, own: Any) -> bool:
    """Whether these are two lengths; what is not a number where one is expected is damage."""
    return given != own and (is_number(given) or not is_number(own))


def advance(schedulers: Sequence[_ParamScheduler], iterations: int, epochs: int) -> None:
    """Advance fresh schedules to their state after the given number of iterations.

    :class:`WarmupCosineLR` is evaluated there; mmengine's schedules compute each value from the one before, so they
    are stepped.

    Args:
        schedulers: Freshly built, in the order of the config.
        iterations, epochs: Number of steps of schedules by iteration and by epoch.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about schedule steps without optimizer steps
        if all(isinstance(each, WarmupCosineLR) for each in schedulers):
            for each in schedulers:
                _jump(each, epochs if each.by_epoch else iterations)
            return
        every = iterations / max(epochs, 1)
        done = 0
        for iteration in range(1, iterations + 1):
            _step(schedulers, by_epoch=False)
            if done < epochs and iteration >= (done + 1) * every:
                _step(schedulers, by_epoch=True)
                done += 1


def _step(schedulers: Sequence[_ParamScheduler], by_epoch: bool) -> None:
    for each in schedulers:
        if each.by_epoch == by_epoch:
            each.step()


def _jump(scheduler: WarmupCosineLR, steps: int) -> None:
    """Set the state after the given steps; after the end the last value stays."""
    effective = min(steps, scheduler.end - 1)
    if effective >= scheduler.begin:
        scheduler._global_step = effective - 1
        scheduler.last_step = effective - scheduler.begin - 1
        scheduler.step()
    scheduler._global_step = steps
    scheduler._last_value = [group[scheduler.param_name] for group in scheduler.optimizer.param_groups]
