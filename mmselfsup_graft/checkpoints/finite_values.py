"""Checks of the values of weights: finite floating-point numbers where they are expected."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from mmselfsup_graft.errors import CheckpointError, NonFiniteWeightsError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NOT_FINITE = 'holds NaN or infinite values'
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)
# of an encoder: everything else in it is learned or averaged
ENCODER_COUNTERS = r'(.*\.)?(num_batches_tracked|relative_position_index|position_ids)$'
_CONSTANT = ('relative_position_index', 'position_ids')
_NOT_NEGATIVE = ('num_batches_tracked', 'running_var')
# of a whole model: values other than parameters and running statistics may be of any kind
MODEL_BUFFERS = r'(?!.*(weight|bias|embed|token|table|gamma\w*|running_mean|running_var)$)'


def are_steps(value: Any) -> bool:
    """Whether this is a list of epochs or iterations."""
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def value_problem(tensor: Any, whole: bool = False) -> str:
    """What is wrong with the values of a tensor; empty if they are valid.

    Args:
        tensor: The tensor.
        whole: Whole numbers or booleans are expected, not floating point.
    """
    if not isinstance(tensor, torch.Tensor):
        return f'is a {type(tensor).__name__}, not a tensor'
    kind = str(tensor.dtype).removeprefix('torch.')
    if whole:
        return '' if tensor.dtype in _WHOLE else f'is of type {kind}, expected whole numbers'
    if tensor.dtype not in FLOATS:
        return f'is of type {kind}, expected float16, bfloat16, float32 or float64'
    if not tensor.numel():
        return 'has no elements'
    if not is_finite(tensor):
        return _NOT_FINITE
    return '' if tensor.dtype != torch.float64 or is_finite(tensor.float()) else 'holds values beyond float32'


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a floating-point tensor has no NaN and no infinite value."""
    if not tensor.numel():
        return True
    least, most = torch.aminmax(tensor)  # one pass, no copy; NaN propagates
    return bool(torch.isfinite(least) & torch.isfinite(most))


def buffer_problem(name: str, given: torch.Tensor, own: torch.Tensor) -> str:
    """Why values of a buffer are impossible; empty if they are not.

    Args:
        name: Name in the model: numbers of updates and variances are not negative, tables of indices are constant.
        given: Tensor of a file, with shape and kind of the model's.
        own: Of the model.
    """
    part = name.rpartition('.')[2]
    if part in _CONSTANT and not torch.equal(given.cpu(), own.cpu().to(given.dtype)):
        return 'differs from that of the model, which is constant'
    if part in _NOT_NEGATIVE and given.numel() and float(given.min()) < 0:
        return 'is negative'
    return ''


def check_weights(origin: str, state: Mapping[str, torch.Tensor], counters: str = ENCODER_COUNTERS) -> None:
    """Raise an error for weights that are not finite floating-point numbers.

    Args:
        origin: File name for the message.
        state: Name -> tensor.
        counters: Regular expression of the names that may also hold integers.

    Raises:
        CheckpointError: If one is; the message names the first ones.
    """
    _raise(origin, list(_problems(state, counters)))


def refuse_other_values(origin: str, state: Mapping[Any, Any], prefix: str = '') -> None:
    """Raise an error for a state dict in which a value with the name of a weight is not a tensor.

    Args:
        origin: File name for the message.
        state: Content of the file: tensors, and possibly other values under other names.
        prefix: Only names that begin with it.

    Raises:
        CheckpointError: If a value under the name of a weight is not a tensor; the message names the first ones.
    """
    others = {n: v for n, v in state.items() if isinstance(n, str) and not isinstance(v, torch.Tensor | Mapping)}
    named = {n: v for n, v in others.items() if n.startswith(prefix) and not re.match(MODEL_BUFFERS, n)}
    _raise(origin, [f'{name} {value_problem(value)}' for name, value in named.items()])


def _problems(state: Mapping[str, torch.Tensor], counters: str) -> Iterable[str]:
    for name, tensor in state.items():
        counted = re.match(ENCODER_COUNTERS, name) is not None and tensor.dtype not in FLOATS
        if not counted and re.match(counters, name) and not (tensor.dtype in FLOATS and tensor.numel()):
            continue
        problem = value_problem(tensor, whole=counted)
        if problem:
            yield f'{name} {problem}'


def _raise(origin: str, problems: list[str]) -> None:
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        message = f'{origin} cannot be used: {"; ".join(problems[:3])}{more}'
        if any(problem.endswith(_NOT_FINITE) for problem in problems):
            raise NonFiniteWeightsError(f'{message}; its training diverged or the file is damaged')
        raise CheckpointError(message)
