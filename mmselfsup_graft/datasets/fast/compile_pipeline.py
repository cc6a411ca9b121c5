"""From a list of transforms to a :class:`FastPipeline`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmpretrain.datasets.transforms import PackInputs
from torchvision import transforms

from mmselfsup_graft.datasets.transforms import (
    LoadImage,
    PILGaussianBlur,
    PILGaussianNoise,
    RandomApply,
    TwoViews,
    Views,
    build_pipeline,
)
from mmselfsup_graft.errors import ConfigError

from .affine import Affine
from .decode import Decoder
from .pipeline import DECODING_THERE, FastPipeline, View
from .steps import Blur, Crop, Flip, Grayscale, Jitter, Maybe, Noise, Solarize, Step

#: where the work of a fast pipeline is done, see docs/speed.md
MODES = ('cpu', 'device', *DECODING_THERE)

_STEPS: dict[type, type[Step]] = {
    transforms.RandomResizedCrop: Crop,
    transforms.RandomAffine: Affine,
    transforms.RandomHorizontalFlip: Flip,
    transforms.ColorJitter: Jitter,
    transforms.RandomGrayscale: Grayscale,
    transforms.RandomSolarize: Solarize,
    PILGaussianBlur: Blur,
    PILGaussianNoise: Noise,
}


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
    steps = _Steps(decoder.channels)
    body: list[Any] = list(built[1:-1])
    several = bool(body) and type(body[-1]) in (Views, TwoViews)
    if several and len(body) > 1:
        raise ConfigError(f'fast: {_name(body[0])} stands before {_name(body[-1])}; put it into the views')
    lists = [view.transforms for view in body[-1].views] if several else [body]
    return FastPipeline(decoder, [View(steps.of(each), mode) for each in lists], several, mode)


def _packs_inputs(transform: Any) -> bool:
    return type(transform) is PackInputs and transform.input_key == 'img' and not transform.algorithm_keys


class _Steps:
    """Translate transforms of images with so many channels."""

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def of(self, built: Sequence[Any]) -> list[Step]:
        return [self._one(transform) for transform in built]

    def _one(self, transform: Any) -> Step:
        inner = getattr(transform, 't', transform)  # mmpretrain wraps torchvision's transforms
        if type(inner) is RandomApply:
            steps = self.of(inner.transforms)
            if any(isinstance(step, Crop) for step in steps):
                raise ConfigError('fast: RandomResizedCrop inside RandomApply has no fast form; leave out fast')
            return Maybe(inner, self.channels, steps)
        if type(inner) not in _STEPS:
            raise ConfigError(
                f'fast: the transform {_name(transform)} has no fast form (there is one of '
                f'{", ".join(sorted(each.__name__ for each in (*_STEPS, RandomApply)))}); leave out fast'
            )
        return _STEPS[type(inner)](inner, self.channels)


def _name(transform: Any) -> str:
    return type(getattr(transform, 't', transform)).__name__
