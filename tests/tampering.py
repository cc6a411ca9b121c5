"""Changes of one field of a checkpoint: other kinds, shapes, layouts, ranges and numbers of values."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

HUGE = 2**70
NAN = float('nan')
Place = tuple[Any, ...]


def fields(content: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """All fields of a nest of dicts and lists, containers included, with their paths."""
    if path:
        yield path, content
    if isinstance(content, dict):
        for key, value in content.items():
            yield from fields(value, (*path, key))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from fields(value, (*path, number))


def kind_of_path(path: Place) -> str:
    """The path with its numbers left out: fields of one kind are treated alike."""
    part = path[0]
    if part in ('state_dict', 'ema_state_dict'):
        return f'{part}.{str(path[1]).rpartition(".")[2]}' if len(path) > 1 else part
    return '.'.join('*' if isinstance(each, int) else str(each) for each in path)


def changed(content: dict, path: Place, change: Callable[[dict, Place], None]) -> dict:
    """A copy of the content with one field changed."""
    content = copy.deepcopy(content)
    change(content, path)
    return content


def holder(content: Any, path: Place) -> Any:
    for each in path[:-1]:
        content = content[each]
    return content


def put(value: Any) -> Callable[[dict, Place], None]:
    def change(content: dict, path: Place) -> None:
        *outer, last = path
        parent = holder(content, path)
        new = value(parent[last]) if callable(value) else copy.deepcopy(value)
        if isinstance(parent, tuple):
            entries = [*parent[:last], new, *parent[last + 1 :]]
            put(tuple(entries))(content, tuple(outer))
        else:
            parent[last] = new

    return change


def drop(content: dict, path: Place) -> None:
    parent = holder(content, path)
    if isinstance(parent, tuple):
        put(parent[: path[-1]] + parent[path[-1] + 1 :])(content, path[:-1])
    else:
        del parent[path[-1]]


def place_of(where: str) -> Place:
    """The path that a text like ``param_schedulers.0.end`` names."""
    return tuple(int(each) if each.isdigit() else each for each in where.split('.'))


def put_at(where: str, value: Any) -> Callable[[dict], None]:
    """Replace the value at a path like ``meta.iter``."""
    return lambda content: put(value)(content, place_of(where))


def drop_at(where: str) -> Callable[[dict], None]:
    """Remove the entry at a path like ``meta.iter``."""
    return lambda content: drop(content, place_of(where))


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in another order of memory."""
    order = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(order).contiguous().permute(order)


def within(tensor: torch.Tensor) -> torch.Tensor:
    """The same values inside of a larger memory."""
    memory = torch.full((tensor.numel() * 2 + 3,), 7).to(tensor.dtype)
    memory[3 : 3 + tensor.numel()] = tensor.reshape(-1)
    return memory[3 : 3 + tensor.numel()].view(tensor.shape)


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same values, every other number of a memory."""
    memory = torch.full((tensor.numel() * 2,), 7).to(tensor.dtype)
    memory[::2] = tensor.reshape(-1)
    return memory.as_strided(tensor.shape, [2 * each for each in tensor.contiguous().stride()])


ANY = {
    'dropped': drop,
    'none': put(None),
    'text': put('x'),
    'bytes': put(b'x'),
    'list': put([1, 2]),
    'dict': put({'a': 1}),
    'tensor of two': put(torch.tensor([1.0, 2.0])),
    'whole tensor of two': put(torch.tensor([1, 2])),
    'complex': put(1j),
    'true': put(True),
    'nan': put(NAN),
    'huge': put(HUGE),
    'negative': put(-1),
}
TENSOR = {
    'flat': put(lambda t: t.reshape(-1, 1)),
    'empty': put(lambda t: t.new_zeros(0)),
    'an axis more': put(lambda t: t[None]),
    'larger': put(lambda t: torch.cat([t.reshape(-1), t.reshape(-1)])),
    'scalar': put(lambda t: t.reshape(-1)[0] if t.ndim else t.reshape(1)),
    'transposed': put(transposed),
    'within': put(within),
    'strided': put(strided),
    'double': put(lambda t: t.double()),
    'half': put(lambda t: t.half()),
    'bfloat16': put(lambda t: t.bfloat16()),
    'float8': put(lambda t: t.float().to(torch.float8_e4m3fn)),
    'integers': put(lambda t: t.long() if t.is_floating_point() else t.int()),
    'booleans': put(lambda t: t > 0),
    'complex tensor': put(lambda t: t.to(torch.complex64)),
    'conjugate': put(lambda t: t.to(torch.complex64).conj()),
    'meta': put(lambda t: t.to('meta')),
    'sparse': put(lambda t: t.to_sparse()),
    'quantized': put(lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8)),
    'nans': put(lambda t: torch.full_like(t, NAN) if t.is_floating_point() else torch.full_like(t, -1)),
    'infinite': put(lambda t: torch.full_like(t, float('inf')) if t.is_floating_point() else torch.full_like(t, 2**62)),
    'requires grad': put(lambda t: t.clone().requires_grad_() if t.is_floating_point() else t),
    'parameter': put(lambda t: torch.nn.Parameter(t.clone(), requires_grad=t.is_floating_point())),
    'numbers': put(lambda t: t.tolist()),
    'array': put(lambda t: t.detach().numpy()),
}
NUMBER = {
    'infinite number': put(float('inf')),
    'minus infinite': put(float('-inf')),
    'as text': put(str),
    'in a tensor': put(lambda x: torch.tensor(x)),
    'in a whole tensor': put(lambda x: torch.tensor([x])),
    'in a list': put(lambda x: [x]),
    'as float': put(lambda x: float(x)),
    'in numpy': put(lambda x: np.float64(x) if isinstance(x, float) else np.int64(x)),
    'zero': put(0),
    'one more': put(lambda x: x + 1),
    'one less': put(lambda x: x - 1),
    'twice': put(lambda x: x * 2),
    'halved': put(lambda x: x / 2 if isinstance(x, float) else x // 2),
    'large': put(1e30),
    'large whole': put(2**40),
}
BOOL = {'other': put(lambda x: not x), 'as number': put(lambda x: int(not x)), 'yes': put('True')}
TEXT = {'empty text': put(''), 'long': put('x' * 10**6), 'path': put('../../x'), 'control': put('a\x1b[31m\nb\0')}
DICT = {
    'cleared': put(lambda d: {}),
    'more': put(lambda d: {**d, 'more': 1}),
    'more tensor': put(lambda d: {**d, 'more': torch.zeros(3)}),
    'keys as text': put(lambda d: {str(k): v for k, v in d.items()}),
    'as list': put(lambda d: list(d.items())),
    'reversed': put(lambda d: dict(reversed(d.items()))),
    'one less entry': put(lambda d: dict(list(d.items())[:-1])),
    'number key': put(lambda d: {**d, 99: 0}),
}
LIST = {
    'emptied': put(lambda v: type(v)()),
    'shorter': put(lambda v: v[:-1]),
    'longer': put(lambda v: [*v, v[-1]] if v else [0]),
    'turned': put(lambda v: v[::-1]),
    'as tuple': put(tuple),
    'as a dict': put(lambda v: dict(enumerate(v))),
    'nested': put(lambda v: [v]),
}


def changes_for(value: Any) -> dict[str, Callable[[dict, Place], None]]:
    """Changes that apply to a value."""
    if isinstance(value, torch.Tensor):
        return {**ANY, **TENSOR}
    if isinstance(value, bool):
        return {**ANY, **BOOL}
    if isinstance(value, int | float):
        return {**ANY, **NUMBER}
    if isinstance(value, str):
        return {**ANY, **TEXT}
    if isinstance(value, dict):
        return {**ANY, **DICT}
    if isinstance(value, list | tuple):
        return {**ANY, **LIST}
    return ANY
