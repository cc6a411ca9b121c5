"""Values of a config: against the types in the signature of their reader, and against the ranges of this table.

Values are refused only if they cannot be right: text where numbers or switches are expected, a switch where a number
is, and a word that is not in a closed list. Signatures of other libraries are not exact enough for more.
"""

import contextlib
import fnmatch
import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable
from numbers import Number
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

Rule = tuple[Callable[[Any], bool], str]  # test, and what is expected
_NUMBERS = (int, float, complex, torch.Tensor)
_WORDS = {'interpolation': ('nearest', 'bilinear', 'bicubic', 'area', 'lanczos', 'box', 'hamming')}
_LIBRARIES_WITH_WORDS = ('mmselfsup_graft', 'torchvision', 'mmpretrain', 'mmcv', 'mmdet', 'mmseg')
_SHARE: Rule = (lambda value: isinstance(value, int | float) and 0 <= value <= 1, 'a number from 0 to 1')
_RANGE: Rule = (
    lambda value: _are_numbers(value, 2) and 0 < value[0] <= value[1],
    'two numbers above 0, the smaller one first',
)
_TRANSFORMS: dict[str, dict[str, Rule]] = {  # of torchvision, whose signatures have no types
    'RandomResizedCrop': {'scale': _RANGE, 'ratio': _RANGE},
    **{name: {'p': _SHARE} for name in ('RandomHorizontalFlip', 'RandomVerticalFlip', 'RandomGrayscale')},
}
_COUNT: Rule = (lambda value: type(value) is int and value >= 1, 'a whole number of at least 1')
_COUNTS: Rule = (  # of a transformer, or of each stage of a Swin
    lambda value: all(map(_COUNT[0], value)) if isinstance(value, list | tuple) else _COUNT[0](value),
    'a whole number of at least 1, or a list of them',
)
_SWITCH: Rule = (lambda value: value in (0, 1), 'True or False')
_LEVELS = ('NOTSET', 'DEBUG', 'INFO', 'WARN', 'WARNING', 'ERROR', 'CRITICAL', 'FATAL')
_PRECISIONS = ('highest', 'high', 'medium')
_PATHS: dict[str, Rule] = {  # path in a config, with wild cards -> what no signature says about its value
    'optim_wrapper.clip_grad': (lambda value: _clips(value), 'dict(max_norm=1.0, ...) or dict(type="value", ...)'),
    'optim_wrapper.optimizer.weight_decay': (lambda value: _at_least(0, value), 'a number of at least 0'),
    'optim_wrapper.optimizer.lr': (lambda value: _at_least(0, value), 'a learning rate of at least 0'),
    '*_dataloader.num_workers': (lambda value: _at_least(0, value), 'a number of processes of at least 0'),
    '*_dataloader.batch_size': (lambda value: _at_least(1, value), 'a number of images of at least 1'),
    'log_level': (lambda value: not isinstance(value, str) or value in _LEVELS, f'one of {", ".join(_LEVELS)}'),
    '*data_preprocessor.mean': (lambda value: _are_numbers(value), 'a list of numbers (on 0..255), one per channel'),
    '*data_preprocessor.std': (
        lambda value: _are_numbers(value) and min(value) > 0,
        'a list of numbers above 0 (on 0..255), one per channel',
    ),
    'train_cfg.max_epochs': _COUNT,
    'evaluation.loader.batch_size': _COUNT,
    'env_cfg.float32_matmul_precision': (lambda value: value in _PRECISIONS, f'one of {", ".join(_PRECISIONS)}'),
    'auto_scale_lr.rule': (lambda value: value in ('linear', 'sqrt'), 'linear or sqrt'),
    **{f'model.*arch.{name}': _COUNT for name in ('embed_dims', 'num_layers', 'feedforward_channels')},
    'model.*arch.num_heads': _COUNTS,
    **dict.fromkeys(('auto_scale_lr.base_batch_size', 'default_hooks.logger.interval'), _COUNT),
    **dict.fromkeys(('resume', 'resume_anyway', 'find_unused_parameters', 'auto_scale_lr.enable'), _SWITCH),
    **dict.fromkeys(('env_cfg.cudnn_benchmark', 'optim_wrapper.paramwise_cfg.no_decay_1d'), _SWITCH),
    **dict.fromkeys(('randomness.deterministic', 'randomness.diff_rank_seed'), _SWITCH),
}


def wrong_path_value(path: str, value: Any) -> str | None:
    """What the value at a path of a config must be, in words, if it certainly is something else."""
    rules = [rule for pattern, rule in _PATHS.items() if value is not None and fnmatch.fnmatchcase(path, pattern)]
    return next((expected for test, expected in rules if not test(value)), None)


def _clips(value: Any) -> bool:
    """Whether torch's function for clipping gradients takes these options, as mmengine calls it."""
    if not isinstance(value, dict):
        return False
    by_value = value.get('type', 'norm') == 'value'
    function = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
    taken = set(inspect.signature(function).parameters) - {'parameters'}
    needed = 'clip_value' if by_value else 'max_norm'
    options = {key: each for key, each in value.items() if key != 'type'}
    order = options.get('norm_type', 2.0)
    numbers = _is_number(options.get(needed)) and (_is_number(order) or order == 'inf')
    return numbers and set(options) <= taken


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at_least(least: int, value: Any) -> bool:
    return not isinstance(value, int | float) or least <= value < float('inf')


def _are_numbers(value: Any, length: int | None = None) -> bool:
    is_list = isinstance(value, list | tuple) and len(value) == (length or max(1, len(value)))
    return is_list and all(isinstance(each, int | float) for each in value)


def wrong_value(target: Callable, key: str, value: Any) -> str | None:
    """The expected type in words if the value is invalid, else None.

    Args:
        target: The class or function that is called with it.
        key: Name of the argument.
        value: As it stands in the config.
    """
    library = getattr(target, '__module__', '').partition('.')[0]
    if isinstance(value, str) and key in _WORDS and library in _LIBRARIES_WITH_WORDS:
        return None if value in _WORDS[key] else f'one of {", ".join(_WORDS[key])}'
    chain = target.__mro__ if inspect.isclass(target) else ()
    transform = next((each.__name__ for each in chain if each.__module__.startswith('torchvision.')), '')
    test, expected = _TRANSFORMS.get(transform, {}).get(key, (None, None))
    if test and not test(value):
        return expected
    annotation = _annotations(target).get(key)
    if annotation is None or value is None or _takes(annotation, value):
        return None
    return _in_words(annotation)


@functools.cache
def _annotations(target: Callable) -> dict[str, Any]:
    """Argument -> annotation; of a class those of all ``__init__`` along its parents, its own first."""
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
