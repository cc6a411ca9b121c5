"""The config of an encoder from its checkpoint alone: architecture, image size and normalization."""

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import Conversion, convert
from mmselfsup_graft.checkpoints.formats.traits import read_traits
from mmselfsup_graft.datasets.skipped_files import log_once
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.targets.target_check import heads_of, target_model_of
from mmselfsup_graft.targets.target_model import NoTargetModel

_IMAGENET = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}  # RGB, 0..255
_USUAL_SIZE = (224, 224)


def config_of_file(
    checkpoint: str | os.PathLike,
    source: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    normalization: Mapping[str, Any] | None = None,
) -> Config:
    """Config with ``model.backbone``, ``model.data_preprocessor`` and ``image_size``, as a file describes its encoder.

    Architecture and size are those of the tensors and of ``meta['encoder']``. What a file does not state is assumed and
    logged: images of 224 px for a convolutional network, ImageNet's mean and deviation for color images.

    Args:
        checkpoint: File of any known format.
        source: ``branch``, ``format``, ``grid`` as in a graft.
        size: (H, W) of the images in pixels, instead of the file's.
        normalization: ``mean`` and ``std`` (0..255, a number per channel), instead of the file's.

    Raises:
        CheckpointError: If the file cannot be read, or no backbone of mmpretrain has its tensors.
        ConfigError: If the normalization of gray images is not known.
    """
    given = dict(source or {})
    content = read_checkpoint(checkpoint)
    origin = str(checkpoint)
    if read_traits(content, origin).timm is not None:
        return _config_of_timm(content, origin, given, size, normalization)
    done = convert(
        content,
        origin,
        'mmpretrain',
        given.get('format') or 'auto',
        branch=given.get('branch'),
        grid=given.get('grid'),
    )
    try:
        target = target_model_of(done)
    except NoTargetModel as reason:
        raise CheckpointError(
            f'{origin}: no encoder can be built from the file alone: {reason}; give the config of its training '
            '(--config)'
        ) from reason
    backbone = {'type': target.name if '.' in target.name else f'mmpretrain.{target.name}', **target.arguments}
    heads, assumed = heads_of(done)
    if assumed and done.architecture.family == 'vit':
        log_once(f'{origin}: {heads} attention heads are assumed, as the file does not state them; a config can')
    sizes = size or done.traits.img_size or _whole(done.architecture.img_size) or _whole(backbone.get('img_size'))
    if sizes is None:
        sizes = _USUAL_SIZE
        log_once(f'{origin}: images of 224 x 224 pixels are assumed, as the file does not state their size')
    patch = done.architecture.patch_size
    if patch and any(side % patch for side in sizes):
        raise ConfigError(
            f'images of {sizes[0]} x {sizes[1]} pixels are not a multiple of the patches of {patch} pixels'
        )
    if 'img_size' in backbone:
        backbone['img_size'] = sizes
    preprocessor = dict(normalization or _normalization(done, origin))
    channels = done.architecture.in_channels
    _check_channels(preprocessor, channels, origin)
    model = {'backbone': backbone, 'data_preprocessor': preprocessor}
    return Config({'model': model, 'image_size': list(sizes), 'evaluation': {'source': given}})


def _config_of_timm(
    content: Mapping[str, Any],
    origin: str,
    given: Mapping[str, Any],
    size: tuple[int, int] | None,
    normalization: Mapping[str, Any] | None,
) -> Config:
    """Config of a model of timm, which its file states."""
    wanted = given.get('format') or 'auto'
    done = convert(content, origin, 'timm', wanted, branch=given.get('branch'), grid=given.get('grid'))
    call = dict(done.traits.timm or {})
    name, channels = call.pop('model_name'), call.pop('in_chans', 3)
    backbone = {'type': 'TimmBackbone', 'name': name, 'in_channels': channels, 'options': call}
    sizes = size or done.traits.img_size or _whole(call.get('img_size')) or _USUAL_SIZE
    preprocessor = dict(normalization or _normalization(done, origin))
    _check_channels(preprocessor, channels, origin)
    model = {'backbone': backbone, 'data_preprocessor': preprocessor}
    return Config({'model': model, 'image_size': list(sizes), 'evaluation': {'source': dict(given)}})


def _whole(size: Any) -> tuple[int, int] | None:
    """A size as two numbers; None if it is unknown."""
    pair = (size, size) if isinstance(size, int) else tuple(size or (0, 0))
    return (int(pair[0]), int(pair[1])) if all(pair) else None


def _normalization(done: Conversion, origin: str) -> dict[str, Any]:
    """Mean and deviation in 0..255: those of the file, those of its format, else ImageNet's."""
    if done.traits.mean and done.traits.std:
        return {'mean': list(done.traits.mean), 'std': list(done.traits.std)}
    known = done.normalization
    if known is not None:
        return {'mean': [255 * value for value in known.mean], 'std': [255 * value for value in known.std]}
    if done.architecture.in_channels != 3:
        raise ConfigError(
            f'{origin} does not state how its gray images were normalized; give mean and standard deviation in 0..255 '
            '(--mean, --std), or its config (--config)'
        )
    log_once(f"{origin}: ImageNet's mean and standard deviation are assumed, as the file does not state others")
    return dict(_IMAGENET)


def _check_channels(preprocessor: Mapping[str, Any], channels: int, origin: str) -> None:
    for key in ('mean', 'std'):
        if len(preprocessor[key]) not in (1, channels):
            raise ConfigError(
                f'{key} has {len(preprocessor[key])} numbers, the encoder of {origin} takes {channels} channels; give '
                'one number per channel'
            )
