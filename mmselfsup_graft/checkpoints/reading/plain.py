"""Rebuilding of read content from plain values: no class or attribute chosen by a file is left."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .pickled_calls import Storage
from .stubs import Name, Refused, Stub, clean_text, plain_key, shown
from .unpickling import MAX_OPERATIONS

_SCALARS = (str, int, float, complex, bool, type(None), bytes)
_MAX_DEPTH = 64


def to_plain(value: Any, file_size: int) -> Any:
    """Rebuild content from dicts, lists, tuples, numbers, text, bytes, tensors and arrays of exactly these classes.

    A subclass of dict or list becomes a dict or list, any other object a dict of its attributes or, without them, a
    list of its class's name and its arguments. Keys are text or whole numbers, others are written as text. Tensors
    and containers that are shared stay shared.

    Args:
        value: What an unpickler returned.
        file_size: Size of the file in bytes; the expanded content may not be many times as large.

    Raises:
        Refused: If it is nested too deeply, contains itself, or would be many times larger when expanded.
    """
    return _Rebuilder(8 * file_size + 2**20).rebuild(value, 0)[0]


class _Size:
    """Number of values and bytes of tensors in the expanded form of a value."""

    __slots__ = ('tensors', 'values')

    def __init__(self, values: int = 1, tensors: int = 0) -> None:
        self.values = values
        self.tensors = tensors


_ONE = _Size()


class _Rebuilder:
    """Rebuilds values, each object once."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.done: dict[int, tuple[Any, _Size, Any]] = {}  # keeps the original alive, so that its id is not reused

    def rebuild(self, value: Any, depth: int) -> tuple[Any, _Size]:
        kind = type(value)
        if kind in _SCALARS:
            return value, (_Size(1 + len(value) // 64) if kind in (str, bytes) else _ONE)
        if id(value) in self.done:
            made, size, _ = self.done[id(value)]
            if size is _OPEN:
                raise Refused('it holds a list or dict that contains itself')
            return made, size
        if depth > _MAX_DEPTH:
            raise Refused(f'it is nested more than {_MAX_DEPTH} levels deep')
        self.done[id(value)] = (None, _OPEN, value)
        made, size = self._made(value, depth)
        self.done[id(value)] = (made, size, value)
        return made, size

    def _made(self, value: Any, depth: int) -> tuple[Any, _Size]:
        if isinstance(value, torch.Tensor | Storage):
            tensor = _plain_tensor(value)
            return tensor, _Size(1, tensor.numel() * tensor.element_size())
        if isinstance(value, np.ndarray):
            return _plain_array(value), _Size(1, value.nbytes)
        if isinstance(value, Name):
            return value.text, _ONE
        size = _Size(1)
        if isinstance(value, Stub):
            value = _of_stub(value)
            if isinstance(value, np.ndarray | str):
                return value, _Size(1, getattr(value, 'nbytes', 0))
        elif not isinstance(value, Mapping | list | tuple | set | frozenset | deque):
            value = _of_object(value)
            if type(value) in _SCALARS:
                return value, _ONE
        if isinstance(value, Mapping):
            return self._dict(value, depth, size), size
        values = [self._inner(each, depth, size) for each in value]
        return (tuple(values) if isinstance(value, tuple) else values), size

    def _dict(self, value: Mapping, depth: int, size: _Size) -> dict[str | int, Any]:
        made: dict[str | int, Any] = {}
        items = dict.items(value) if isinstance(value, dict) else value.items()
        for key, inner in items:
            key = plain_key(key if type(key) in (*_SCALARS, tuple) else _of_object(key))
            if key in made:
                raise Refused(f'two keys of a dict in it have the text {shown(str(key))}')
            made[key] = self._inner(inner, depth, size)
        return made

    def _inner(self, value: Any, depth: int, size: _Size) -> Any:
        made, of_it = self.rebuild(value, depth + 1)
        size.values += of_it.values
        size.tensors += of_it.tensors
        if size.values > 2 * MAX_OPERATIONS:
            raise Refused('it repeats its parts so often that it would grow to many times its size')
        if size.tensors > self.most_bytes:
            raise Refused('it repeats its tensors so often that they would grow to many times its size')
        return made


_OPEN = _Size()  # marks a value that is being rebuilt


def _plain_tensor(value: torch.Tensor | Storage) -> torch.Tensor:
    """A plain tensor on the same storage, without attributes, hooks or subclass."""
    if isinstance(value, Storage):
        count = value.data.nbytes() // value.dtype.itemsize
        return torch.empty(0, dtype=value.dtype).set_(value.data, 0, (count,), (1,))  # type: ignore[call-overload]
    kind = 'quantized' if value.is_quantized else 'meta' if value.is_meta else str(value.layout).removeprefix('torch.')
    if kind != 'strided':
        raise Refused(f'it holds a {kind} tensor; save plain tensors on the CPU')
    with torch.no_grad():
        return value.detach().as_subclass(torch.Tensor)


def _plain_array(value: np.ndarray) -> Any:
    if value.dtype.kind not in 'biufc' or value.dtype.names:
        return shown(str(value.dtype)) + ' array'
    return np.asarray(value).view(np.ndarray)


def _of_stub(stub: Stub) -> Any:
    """The plain container that keeps most of what was put into a stub."""
    if isinstance(stub.value, np.ndarray):
        return stub.value
    if stub.items is not None:
        return stub.items
    if stub.entries is not None:
        return stub.entries
    return _of_state(stub.name, stub.args, stub.state)


def _of_state(name: str, args: tuple, state: Any) -> Any:
    parts = state if type(state) is tuple and len(state) == 2 else (state,)  # attributes, and those of slots
    if all(part is None or isinstance(part, dict) for part in parts) and any(parts):
        return {key: value for part in parts for key, value in (part or {}).items()}
    if not args and not state:
        return name
    return [name, *args] if state is None else [name, *args, state]


def _of_object(value: Any) -> Any:
    """The plain form of an object from a file read with ``unsafe_pickle=True``."""
    numbers: tuple[Any, ...] = (int, float, complex)
    for kind in numbers:
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, str):
        return clean_text(str.__str__(value))
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, np.generic):
        return value.item() if value.dtype.kind in 'biufc' else shown(repr(value))
    name = f'{type(value).__module__}.{type(value).__qualname__}'
    return _of_state(name, (), getattr(value, '__dict__', None) or None)
