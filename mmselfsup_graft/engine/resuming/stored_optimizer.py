"""The optimizer state of a checkpoint, checked against the optimizer that loads it.

torch checks the number of parameters only. Its fused kernels then write through pointers of whatever shape the moments
have, which ends in a crash or in wrong numbers.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.optim import Optimizer

from mmselfsup_graft.engine.optimizers.wrapper import check_group_sizes
from mmselfsup_graft.errors import CheckpointError

from .stored_values import is_number, kind_of, kind_problem, own_tensor, tensor_problem

# implementation options are this run's choice; the copy on the CPU uses the plain one
COMPUTING = ('fused', 'foreach', 'capturable', 'differentiable')
_LARGEST = torch.finfo(torch.float32).max
_SCALER = {'scale': 0.0, 'growth_factor': 1.0, 'backoff_factor': 0.0, 'growth_interval': 0, '_growth_tracker': -1}


def checked_optimizer(
    state: Any,
    wrapper: OptimWrapper | OptimWrapperDict,
    model: nn.Module,
    filename: str,
    steps: int | None = None,
    may_be_empty: bool = True,
) -> dict[str, Any]:
    """An optimizer state that ``wrapper.load_state_dict`` can take, or an error; nothing is loaded.

    Args:
        state: What the file holds, as plain data.
        wrapper: One or several optimizers.
        model: The model, for the names of its parameters.
        filename: For the message.
        steps: Largest possible step count of a parameter; None if unknown.
        may_be_empty: Whether an optimizer may have no moments, as before its first step.

    Returns:
        A new dict whose tensors have their own memory.

    Raises:
        CheckpointError: If an entry has another kind, shape or dtype than in this run.
    """
    if not isinstance(state, dict):
        raise CheckpointError(f'{filename}: the optimizer state is {kind_of(state)}, expected a dict')
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    if not isinstance(wrapper, OptimWrapperDict):
        return _Check(filename, '', names, steps, may_be_empty).wrapper(state, wrapper)
    if set(state) != set(wrapper.keys()):
        raise CheckpointError(
            f'{filename}: it has the optimizers {", ".join(map(str, state))}, this run has {", ".join(wrapper.keys())}'
        )
    checked = {}
    for name, each in wrapper.items():
        if not isinstance(state[name], dict):
            raise CheckpointError(f'{filename}: optimizer {name} is {kind_of(state[name])}, expected a dict')
        checked[name] = _Check(filename, f'{name}: ', names, steps, may_be_empty).wrapper(state[name], each)
    return checked


class _Check:
    """The comparison for one optimizer."""

    def __init__(
        self, filename: str, prefix: str, names: Mapping[int, str], steps: int | None, may_be_empty: bool
    ) -> None:
        self.filename, self.prefix, self.names = filename, prefix, names
        self.steps, self.may_be_empty = steps, may_be_empty
        self.examples: dict[Any, dict[str, Any] | None] = {}
        self.storages: set[int] = set()

    def refuse(self, what: str) -> CheckpointError:
        return CheckpointError(
            f'{self.filename} cannot be resumed: {self.prefix}{what}. The file is damaged or of another run; resume '
            'from another checkpoint'
        )

    def wrapper(self, state: dict, wrapper: OptimWrapper) -> dict[str, Any]:
        optimizer = wrapper.optimizer
        for key in ('state', 'param_groups'):
            kind = dict if key == 'state' else list
            if not isinstance(state.get(key), kind):
                raise self.refuse(f'{key!r} of the optimizer is {kind_of(state.get(key))}, expected a {kind.__name__}')
        groups = self.groups(state['param_groups'], optimizer)
        checked: dict[str, Any] = {'state': self.entries(state['state'], groups, optimizer), 'param_groups': groups}
        base = getattr(wrapper, 'base_param_settings', None)
        if base is not None:
            given = state.get('base_param_settings', base)
            if not isinstance(given, dict):
                raise self.refuse(f"'base_param_settings' of the optimizer is {kind_of(given)}, expected a dict")
            checked['base_param_settings'] = {'params': base['params'], **self.group(given, base, 'base')}
        # empty or missing in the file of a run without float16: a scaler of this run then starts as in a first start
        if state.get('loss_scaler') and hasattr(wrapper, 'loss_scaler'):
            checked['loss_scaler'] = self.scaler(state['loss_scaler'], wrapper.loss_scaler)
        return checked

    # ---------------------------------------------------------------- hyper-parameters
    def groups(self, saved: list, optimizer: Optimizer) -> list[dict[str, Any]]:
        for number, group in enumerate(saved):
            params = group.get('params') if isinstance(group, dict) else None
            if not isinstance(params, list) or not all(type(each) is int for each in params):
                raise self.refuse(f'parameter group {number} of the optimizer lists no parameters')
        check_group_sizes(saved, optimizer.param_groups, self.filename)
        numbers = [each for group in saved for each in group['params']]
        if len(set(numbers)) < len(numbers):
            raise self.refuse('a parameter is in two groups of the optimizer')
        checked = []
        for number, (group, own) in enumerate(zip(saved, optimizer.param_groups)):
            values = self.group(group, own, str(number))
            self.in_range(values, own, optimizer, number)
            checked.append({**values, 'params': list(group['params'])})
        return checked

    def group(self, given: Mapping[str, Any], own: Mapping[str, Any], number: str) -> dict[str, Any]:
        """Values of a group, those of this run if the file has no relevant one."""
        checked = {}
        for key in [*given, *(each for each in own if each not in given)]:  # in the order of the file
            if key == 'params':
                continue
            problem = None
            if key in own and (key in COMPUTING or (key not in given and isinstance(own[key], bool | None))):
                checked[key] = own[key]  # a choice of this run, or missing in older files
                continue
            if key not in given:
                problem = 'is missing'
            elif key in own:
                problem = kind_problem(given[key], own[key])
            elif not (is_number(given[key]) or isinstance(given[key], bool | str | None)):
                problem = f'is {kind_of(given[key])}, expected a number'
            if problem is None and key == 'param_names' and list(given[key]) != list(own.get(key, given[key])):
                problem = 'names other parameters than this run has'
            if problem is not None:
                raise self.refuse(f'{key} of parameter group {number} {problem}')
            checked[key] = given[key]
        return checked

    def in_range(self, values: dict[str, Any], own: Mapping[str, Any], optimizer: Optimizer, number: int) -> None:
        """Let the optimizer's class validate values that differ from the run's, as it does for a config."""
        shared = [key for key in own if key in values and not isinstance(values[key], torch.Tensor)]
        if all(values[key] == own[key] for key in shared):
            return
        if _twin(optimizer, own, torch.zeros(1)) is None:
            return  # it cannot be built like this: its ranges are unknown
        try:
            _build(optimizer, values, torch.zeros(1))
        except (ValueError, TypeError, RuntimeError) as error:
            raise self.refuse(f'parameter group {number} of the optimizer has a wrong value ({error})') from error

    # ---------------------------------------------------------------- moments
    def entries(self, saved: dict, groups: list[dict[str, Any]], optimizer: Optimizer) -> dict[int, dict[str, Any]]:
        owners = {
            number: (position, parameter)
            for position, (group, own) in enumerate(zip(groups, optimizer.param_groups))
            for number, parameter in zip(group['params'], own['params'])
        }
        for number in saved:
            if number not in owners:
                raise self.refuse(f'the optimizer has an entry {number!r} that belongs to no parameter')
        checked = {}
        for number, (position, parameter) in owners.items():
            if number in saved:
                name = self.names.get(id(parameter), f'parameter {number}')
                example = self.example(optimizer, position, parameter)
                checked[number] = self.entry(saved[number], parameter, example, name)
        if not saved and not self.may_be_empty:
            for position, parameter in owners.values():
                kept = self.example(optimizer, position, parameter)
                if kept and any(value is not None for value in kept.values()):
                    raise self.refuse(f'the optimizer has no moments ({", ".join(kept)})')
        return checked

    def example(self, optimizer: Optimizer, position: int, parameter: torch.Tensor) -> dict[str, Any] | None:
        key = (position, tuple(parameter.shape), parameter.dtype)
        if key not in self.examples:
            like = torch.zeros(parameter.shape, dtype=parameter.dtype)
            self.examples[key] = _twin(optimizer, optimizer.param_groups[position], like)
        return self.examples[key]

    def entry(self, saved: Any, parameter: torch.Tensor, example: dict[str, Any] | None, name: str) -> dict[str, Any]:
        """The state of one parameter, with the names, shapes and types that the optimizer creates."""
        if not isinstance(saved, dict):
            raise self.refuse(f'the optimizer state of {name} is {kind_of(saved)}, expected a dict')
        saved = {key: value for key, value in saved.items() if value is not None or (example and key in example)}
        if example is not None:
            for key in example:
                if key not in saved and example[key] is not None:
                    raise self.refuse(f'{key} of {name} is missing in the optimizer state')
        checked = {}
        for key, value in saved.items():
            if example is not None and key not in example:
                raise self.refuse(f'the optimizer state of {name} has {key!r}, which this optimizer does not keep')
            problem = _problem(key, value, parameter, None if example is None else example[key])
            if problem is None and key == 'step':
                problem = self.step_problem(value)
            if problem is not None:
                raise self.refuse(f'{key} of {name} in the optimizer state {problem}')
            checked[key] = own_tensor(value, self.storages, parameter) if isinstance(value, torch.Tensor) else value
        return checked

    def step_problem(self, value: Any) -> str | None:
        step = float(value)
        if not step.is_integer():
            return f'is {step:g}, expected a whole number'
        if self.steps is not None and step > self.steps:
            return f'is {step:g}, expected at most {self.steps}, the steps of the file'
        return None

    def scaler(self, saved: Any, own: Any) -> dict[str, Any]:
        """Scale and progress of the file, options of the run."""
        if not isinstance(saved, dict):
            raise self.refuse(f'the state of the loss scaler is {kind_of(saved)}, expected a dict')
        for key, above in _SCALER.items():
            value = saved.get(key)
            fits = isinstance(value, int | float) and is_number(value) and value > above
            if not fits or (isinstance(above, int) and type(value) is not int):
                raise self.refuse(f'{key} of the loss scaler is {kind_of(value)}, expected a number above {above:g}')
        if saved['backoff_factor'] >= 1:
            raise self.refuse(f'backoff_factor of the loss scaler is {saved["backoff_factor"]}, expected less than 1')
        if saved['scale'] > _LARGEST:
            raise self.refuse(f'scale of the loss scaler is {saved["scale"]:g}, expected at most {_LARGEST:g}')
        if saved['_growth_tracker'] >= saved['growth_interval']:
            raise self.refuse(
                f'_growth_tracker of the loss scaler is {saved["_growth_tracker"]}, expected less than its '
                f'growth_interval, {saved["growth_interval"]}'
            )
        options = {key: own.state_dict().get(key, saved[key]) for key in _SCALER}
        tracker = min(saved['_growth_tracker'], options['growth_interval'] - 1)  # beyond it would never be reached
        return {**options, 'scale': saved['scale'], '_growth_tracker': tracker}


def _problem(key: str, value: Any, parameter: torch.Tensor, example: Any) -> str | None:
    if isinstance(example, torch.Tensor):
        # a count may be a number or a tensor, depending on the version of torch
        problem = None if example.ndim == 0 and is_number(value) else tensor_problem(value, example)
    elif example is not None:
        counted = isinstance(value, torch.Tensor) and value.ndim == 0 and is_number(example)
        problem = tensor_problem(value, value) if counted else kind_problem(value, example)
    elif isinstance(value, torch.Tensor):  # an unknown optimizer
        problem = tensor_problem(value, value if value.numel() == 1 else parameter)
    else:
        problem = kind_problem(value, 0.0) if not isinstance(value, bool | None) else None
    if problem is None and (key == 'step' or key.endswith('_sq')) and _lowest(value) < 0:
        return 'is negative'
    return problem


def _lowest(value: Any) -> float:
    if isinstance(value, torch.Tensor):
        return float(value.min()) if value.numel() else 0.0
    return float(value) if is_number(value) else 0.0


def _build(optimizer: Optimizer, options: Mapping[str, Any], like: torch.Tensor) -> Optimizer:
    """An optimizer of the same class with a parameter like this, without fused or foreach kernels."""
    known = inspect.signature(type(optimizer)).parameters
    chosen = {key: value for key, value in options.items() if key in known and key not in ('params', *COMPUTING)}
    return type(optimizer)([nn.Parameter(like.clone())], **chosen)


def _twin(optimizer: Optimizer, options: Mapping[str, Any], like: torch.Tensor) -> dict[str, Any] | None:
    """The state that the optimizer keeps for a parameter, from one step of a copy of it.

    None for an optimizer that cannot be made from the options of its groups.
    """
    try:
        twin = _build(optimizer, options, like)
        (parameter,) = twin.param_groups[0]['params']
        parameter.grad = torch.zeros_like(parameter)
        twin.step()
    except Exception:  # of an unknown class
        return None
    return dict(twin.state[parameter])
