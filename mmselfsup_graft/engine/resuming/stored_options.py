"""Options of a stored optimizer and settings of stored schedules, compared with those of the run.

Moments are valid only for the options they were computed with, and settings of a config must not be replaced by
those of a file.
"""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.optim import OptimWrapper, _ParamScheduler

from .stored_optimizer import COMPUTING
from .stored_values import kind_of

_WHERE_IT_STANDS = {
    'self',
    'optimizer',
    'last_step',
    'verbose',
}  # arguments of schedules that do not affect the values


def differing_options(
    saved: Sequence[Mapping[str, Any]], wrapper: OptimWrapper, own: Iterable[_ParamScheduler], first_values: bool
) -> list[str]:
    """Descriptions of the options of parameter groups that differ from the run.

    Args:
        saved: Groups of a file, of kinds that were checked.
        wrapper: Of the run, as it was built.
        own: Schedules of the run for this optimizer. The values that they set are not compared here.
        first_values: Whether the values from which the schedules start (``initial_lr``) must be equal as well.
    """
    scheduled = {'lr', *(each.param_name for each in own)}
    free = {*scheduled, 'params', 'param_names', *COMPUTING}
    if 'momentum' in scheduled:
        free.add('betas')  # mmengine's schedules of Adam's momentum set both
    if not first_values:
        free |= {f'initial_{name}' for name in scheduled}
    return [
        f'{key} of parameter group {number} was {_word(group[key])}, now it is {_word(value)}'
        for number, (group, mine) in enumerate(zip(saved, wrapper.param_groups))
        for key, value in mine.items()
        if key not in free and key in group and not _same(group[key], value)
    ]


def differing_schedules(
    saved: Sequence[Mapping[str, Any]], own: Sequence[_ParamScheduler], groups: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Descriptions of the settings of schedules that differ from the run or do not fit the stored groups.

    Args:
        saved: States of a file, as many as the run has schedules, of kinds that were checked.
        own: Schedules of the run.
        groups: Groups of the file's optimizer; empty if it is not loaded.
    """
    found = []
    for number, (state, scheduler) in enumerate(zip(saved, own)):
        for key in _settings(scheduler):
            if key in state and not _same(state[key], getattr(scheduler, key)):
                now = _word(getattr(scheduler, key))
                found.append(f'{key} of schedule {number} was {_word(state[key])}, now it is {now}')
        first = [group.get(f'initial_{scheduler.param_name}') for group in groups]
        base = list(state.get('base_values', ()))[: len(first)]
        if None not in first and 'base_values' in state and not _same(base, first):
            found.append(f'base_values of schedule {number} are {_word(base)}, the groups of the file have {first}')
    return found


def differing_values(
    groups: Sequence[Mapping[str, Any]],
    saved: Sequence[Mapping[str, Any]],
    own: Sequence[_ParamScheduler],
    wrapper: OptimWrapper,
) -> list[str]:
    """Descriptions of the values of groups that differ from the last values of the file's schedules.

    A rate that no schedule of the run sets must be that of the run.
    """
    found = []
    for name in {'lr': None, **{each.param_name: None for each in own}}:
        last = [state.get('_last_value', ()) for state, each in zip(saved, own) if each.param_name == name]
        for number, (group, mine) in enumerate(zip(groups, wrapper.param_groups)):
            if name not in group:
                continue
            wanted = [values[number] for values in last if number < len(values)] if last else [mine[name]]
            if wanted and not any(_same(group[name], each) for each in wanted):
                source = 'the schedule of the file has' if last else 'now it is'
                found.append(
                    f'{name} of parameter group {number} was {_word(group[name])}, {source} {_word(wanted[0])}'
                )
    return found


def _settings(scheduler: _ParamScheduler) -> list[str]:
    """Names of the arguments of a schedule, which it keeps under the same names and does not change."""
    names: dict[str, None] = {}
    for each in type(scheduler).__mro__[:-1]:
        if '__init__' in vars(each):
            names.update(dict.fromkeys(inspect.signature(vars(each)['__init__']).parameters))
    return [name for name in names if name not in _WHERE_IT_STANDS and name in vars(scheduler)]


def _same(given: Any, own: Any) -> bool:
    if isinstance(given, torch.Tensor) and given.numel() == 1:
        given = given.item()
    if isinstance(own, torch.Tensor) and own.numel() == 1:
        own = own.item()
    if isinstance(given, list | tuple) and isinstance(own, list | tuple):
        return len(given) == len(own) and all(map(_same, given, own))
    if isinstance(given, bool) or isinstance(own, bool):
        return given is own
    if isinstance(given, int | float) and isinstance(own, int | float):
        return math.isclose(given, own, rel_tol=1e-9)
    if isinstance(given, dict) and isinstance(own, dict):
        return dict(given) == dict(own)
    return type(given) is type(own) and bool(given == own)


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return repr(value)[:100]
    return kind_of(value)
