"""Values of a config against the types that the signature of their reader names.

Only what is certainly wrong is refused: text where numbers or switches are expected, a switch where a number is, and a
word that is none of a closed list. Signatures of other libraries are not exact enough for more.
"""

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable
from numbers import Number
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

#: words of arguments whose signatures say no more than ``str``
_WORDS = {'interpolation': ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos', 'box', 'hamming')}


def _torchvision_name(target: Callable) -> str:
    """Name of a class of torchvision, or of one derived from it under the same name; others take other arguments."""
    chain = target.__mro__ if inspect.isclass(target) else ()
    return next((each.__name__ for each in chain if each.__module__.startswith('torchvision.')), '')


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_range(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(each, int | float) for each in value)
    return pair and 0 < value[0] <= value[1]


#: arguments of torchvision's transforms, whose signatures have no types: test -> what is expected
_RANGES: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    'RandomResizedCrop': dict.fromkeys(('scale', 'ratio'), (_is_range, 'two numbers above 0, the smaller one first')),
    'RandomHorizontalFlip': {'p': (_is_share, 'a number from 0 to 1')},
    'RandomVerticalFlip': {'p': (_is_share, 'a number from 0 to 1')},
    'RandomGrayscale': {'p': (_is_share, 'a number from 0 to 1')},
}
_NUMBERS = (int, float, complex, torch.Tensor)


def wrong_value(target: Callable, key: str, value: Any) -> str | None:
    """What an argument takes, in words, if it certainly cannot take a value; None if it may.

    Args:
        target: The class or function that is called with it.
        key: Name of the argument.
        value: As it stands in the config.
    """
    if isinstance(value, str) and key in _WORDS:
        return None if value in _WORDS[key] else f'one of {", ".join(_WORDS[key])}'
    ranged = _RANGES.get(_torchvision_name(target), {}).get(key)
    if ranged is not None and not ranged[0](value):
        return ranged[1]
    annotation = _annotations(target).get(key)
    if annotation is None or value is None or _takes(annotation, value):
        return None
    return _in_words(annotation)


@functools.cache
def _annotations(target: Callable) -> dict[str, Any]:
    """Argument -> annotation; of a class those of all ``__init__`` along its parents, its own first."""
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isclass(target):
        return _hints(target)
    found: dict[str, Any] = {}
    for cls in reversed(target.__mro__[:-1]):
        if '__init__' in vars(cls):
            found.update(_hints(vars(cls)['__init__']))
    return found


def _hints(function: Callable) -> dict[str, Any]:
    """Annotations of a function that can be read one by one: some name what exists for type checkers alone."""
    function = inspect.unwrap(function)
    found = {}
    for name, annotation in getattr(function, '__annotations__', {}).items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(NameError, TypeError, AttributeError, SyntaxError):
            found.update(get_type_hints(one, getattr(function, '__globals__', {})))
    return found


def _takes(annotation: Any, value: Any) -> bool:
    alternatives = get_args(annotation) if _is_union(annotation) else (annotation,)
    return any(_one_takes(each, value) for each in alternatives)


def _one_takes(annotation: Any, value: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return not isinstance(value, str | bool | int) or value in get_args(annotation)
    if annotation is bool:
        return not isinstance(value, str | Number) or value in (0, 1)
    if annotation is int:
        return not isinstance(value, str | bool) and (not isinstance(value, float) or value.is_integer())
    if annotation in _NUMBERS:
        return not isinstance(value, str | bool)
    if annotation is type(None):
        return False
    if origin is tuple and isinstance(value, Number):
        return False
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Iterable) and isinstance(value, str):
        parts = get_args(annotation)
        return not parts or not all(_is_numeric(part) for part in parts)
    return True


def _is_numeric(annotation: Any) -> bool:
    each = get_args(annotation) if _is_union(annotation) else (annotation,)
    return all(one in (*_NUMBERS, bool, Ellipsis) for one in each)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _in_words(annotation: Any) -> str:
    names: Collection[str] = [
        getattr(each, '__name__', str(each)) if get_origin(each) is None else str(each).replace('typing.', '')
        for each in (get_args(annotation) if _is_union(annotation) else (annotation,))
        if each is not type(None)
    ]
    return ' or '.join(names)
