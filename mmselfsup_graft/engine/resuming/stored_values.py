"""Values of a checkpoint file as plain data, and checks of their kinds."""

import math
from typing import Any

import numpy as np
import torch

from mmselfsup_graft.checkpoints.finite_values import FLOATS
from mmselfsup_graft.errors import CheckpointError

_UNKNOWN = object()
_SIMPLE = (bool, int, float, str, type(None), bytes)
_FEW = 4096  # numbers that a description of a run may have in one tensor


def plain_copy(value: dict, filename: str) -> dict[Any, Any]:
    """Dicts, lists, numbers, text and tensors of a file, in new containers; other values are left out.

    Content of a file has the exact types already; other content may hold subclasses of dict whose
    instances override ``pop`` or ``get``. Here only ``dict.items`` is called.

    Args:
        value: What was read.
        filename: For the message.

    Raises:
        CheckpointError: If it is nested too deeply, or refers to itself.
    """
    try:
        copied = _plain(value)
    except RecursionError as error:
        raise CheckpointError(
            f'checkpoint {filename} is nested too deeply; it was not written by a training run'
        ) from error
    return copied if type(copied) is dict else {}


def _plain(value: Any) -> Any:
    if type(value) in _SIMPLE or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        items = {key: _plain(each) for key, each in dict.items(value) if type(key) in _SIMPLE}
        return {key: each for key, each in items.items() if each is not _UNKNOWN}
    if isinstance(value, list | tuple):
        base = list if isinstance(value, list) else tuple
        entries = [_plain(each) for each in base.__iter__(value)]  # type: ignore[arg-type]
        return _UNKNOWN if any(each is _UNKNOWN for each in entries) else base(entries)
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in 'bifu':
        return value.tolist()
    return _UNKNOWN


def without_tensors(value: Any) -> Any:
    """A part of :func:`plain_copy` that describes a run: small tensors as lists of numbers, larger ones as text.

    Tensors cannot be compared with ``==``, as other values of a run are.
    """
    if isinstance(value, torch.Tensor):
        return value.tolist() if value.numel() <= _FEW else kind_of(value)
    if isinstance(value, dict):
        return {key: without_tensors(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_tensors(each) for each in value)
    return value


def kind_of(value: Any) -> str:
    """Description of a value for a message."""
    if isinstance(value, torch.Tensor):
        return f'a tensor of shape {tuple(value.shape)}'
    if isinstance(value, str):
        return f'the text {value[:20]!r}'
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f'a {type(value).__name__}'


def is_number(value: Any) -> bool:
    """Whether this is a finite number; booleans are not numbers."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _are_equal(given: Any, own: dict[Any, Any]) -> bool:
    same_keys = isinstance(given, dict) and given.keys() == own.keys()
    return same_keys and all(type(each) in _SIMPLE and each == own[key] for key, each in given.items())


def kind_problem(given: Any, own: Any) -> str | None:
    """Why a stored value cannot replace the run's value; None if it can.

    Numbers must be finite and replace numbers, sequences must have the same length, dicts must hold numbers for
    numbers or be equal.
    """
    if type(given) in _SIMPLE and type(given) is type(own) and given == own:
        return None
    if isinstance(own, bool) or own is None:
        fits = given is None or isinstance(given, bool) or (own is None and (is_number(given) or type(given) is str))
    elif isinstance(own, int | float):
        if type(own) is int and type(given) is float and not given.is_integer():
            fits = False
        else:
            fits = is_number(given)
    elif isinstance(own, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(own):
            return f'is {kind_of(given)}, expected {len(own)} values'
        return next(filter(None, map(kind_problem, given, own)), None)
    elif isinstance(own, dict):
        numbers = isinstance(given, dict) and all(is_number(each) for pair in given.items() for each in pair)
        fits = numbers or _are_equal(given, own)
    elif isinstance(own, torch.Tensor):
        fits = is_number(given) or (isinstance(given, torch.Tensor) and tensor_problem(given, own) is None)
    else:
        fits = type(given) is type(own)
    return None if fits else f'is {kind_of(given)}, expected {"a number" if is_number(own) else kind_of(own)}'


def tensor_problem(given: Any, own: torch.Tensor, finite: bool = True, exact: bool = True) -> str | None:
    """Why a stored tensor cannot replace the run's tensor; None if it can.

    Args:
        given: What the file holds.
        own: The tensor to replace; of a sharded tensor the shape is that of the whole.
        finite: Refuse NaN and infinity.
        exact: Refuse another type of numbers; otherwise floating-point types of 16 to 64 bits may differ.
    """
    if not isinstance(given, torch.Tensor):
        return f'is {kind_of(given)}, expected a tensor of shape {tuple(own.shape)}'
    if given.layout is not torch.strided or given.is_quantized or given.device.type == 'meta' or given.is_nested:
        return 'is sparse, quantized or without values, expected an ordinary tensor'
    if given.shape != own.shape:
        return f'has shape {tuple(given.shape)}, the run has {tuple(own.shape)}'
    both_float = given.dtype in FLOATS and own.dtype in FLOATS
    if given.dtype != own.dtype and (exact or not both_float):
        return f'has values of type {_dtype(given)}, the run has {_dtype(own)}'
    if finite and given.is_floating_point() and not torch.isfinite(given).all():
        return 'holds NaN or infinity'
    return None


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix('torch.')


def own_tensor(tensor: torch.Tensor, seen: set[int], like: torch.Tensor) -> torch.Tensor:
    """The same values in their own memory: a tensor that is updated in place must not be a view.

    Args:
        tensor: Of a file.
        seen: Addresses of the storages that are in use.
        like: Tensor that is updated together with it. With equal shapes they get equal layouts: fused optimizers
            process both in memory order.
    """
    tensor = tensor.detach().resolve_conj().resolve_neg()
    storage = tensor.untyped_storage()
    alone = storage.nbytes() == tensor.numel() * tensor.element_size() and storage.data_ptr() not in seen
    seen.add(storage.data_ptr())
    if tensor.shape == like.shape and tensor.stride() != like.stride():
        return torch.empty_strided(like.shape, like.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
    return tensor if alone and tensor.is_contiguous() else tensor.clone(memory_format=torch.preserve_format)
