"""From a list of transforms to a :class:`FastPipeline`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmpretrain.datasets.transforms import PackInputs

from mmselfsup_graft.datasets.augment import OPERATIONS, AllOrNone, Crop, Operation, RandomApply
from mmselfsup_graft.datasets.transforms import LoadImage, MultiCrop, TwoViews, Views, build_pipeline
from mmselfsup_graft.errors import ConfigError

from .decode import Decoder
from .pipeline import DECODING_THERE, FastPipeline, View

#: where the work of a fast pipeline is done, see docs/speed.md
MODES = ('cpu', 'device', *DECODING_THERE)

_OPERATION_OF = {each.stands_for: each for each in OPERATIONS}


def resolve_mode(fast: bool | str) -> str | None:
    """Mode that a value of the field ``fast`` stands for, ``None`` for the PIL pipeline.

    Args:
        fast: ``False``; ``True`` for ``'device'`` if there is a CUDA device and for ``'cpu'`` otherwise; or a mode.

    Raises:
        ConfigError: It is none of these.
    """
    if isinstance(fast, bool):
        return ('device' if torch.cuda.is_available() else 'cpu') if fast else None
    if fast not in MODES:
        raise ConfigError(f'fast is {fast!r}, expected True, False or one of {", ".join(map(repr, MODES))}')
    return fast


def compile_pipeline(pipeline: Sequence[dict[str, Any] | Callable], mode: str) -> FastPipeline:
    """Compile a pipeline that begins with ``LoadImage`` and ends with ``PackInputs``.

    Args:
        pipeline: Transform configs or callables.
        mode: One of :data:`MODES`.

    Raises:
        ConfigError: The mode is unknown, or a transform has no fast form.
    """
    if mode not in MODES:
        raise ConfigError(f'fast: the mode is {mode!r}, expected one of {", ".join(map(repr, MODES))}')
    built = build_pipeline(pipeline)
    if len(built) < 2 or type(built[0]) is not LoadImage or not _packs_inputs(built[-1]):
        raise ConfigError(
            'fast needs a pipeline that begins with LoadImage and ends with mmpretrain.PackInputs without options; '
            'leave out fast'
        )
    decoder = Decoder(built[0])
    body: list[Any] = list(built[1:-1])
    several = bool(body) and type(body[-1]) in (Views, TwoViews, MultiCrop)
    if several and len(body) > 1:
        raise ConfigError(f'fast: {_name(body[0])} stands before {_name(body[-1])}; put it into the views')
    lists = [view.transforms for view in body[-1].views] if several else [body]
    return FastPipeline(decoder, [View(operations_of(each, decoder.channels), mode) for each in lists], several, mode)


def _packs_inputs(transform: Any) -> bool:
    return type(transform) is PackInputs and transform.input_key == 'img' and not transform.algorithm_keys


def operations_of(transforms: Sequence[Any], channels: int) -> list[Operation]:
    """Return the operations that stand for built transforms of images with so many channels.

    Raises:
        ConfigError: A transform has no fast form.
    """
    return [_operation_of(getattr(each, 't', each), channels) for each in transforms]  # mmpretrain wraps torchvision's


def _operation_of(transform: Any, channels: int) -> Operation:
    if type(transform) is RandomApply:
        operations = operations_of(transform.transforms, channels)
        if any(isinstance(each, Crop) for each in operations):
            raise ConfigError('fast: RandomResizedCrop inside RandomApply has no fast form; leave out fast')
        return AllOrNone(transform, channels, operations)
    if type(transform) not in _OPERATION_OF:
        known = sorted(each.__name__ for each in (*_OPERATION_OF, RandomApply))
        raise ConfigError(
            f'fast: the transform {_name(transform)} has no fast form (there is one of {", ".join(known)}); '
            'leave out fast'
        )
    return _OPERATION_OF[type(transform)](transform, channels)


def _name(transform: Any) -> str:
    return type(getattr(transform, 't', transform)).__name__
