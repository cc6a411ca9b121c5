"""Data sets with another pipeline, and the plain one that brings any image to the size of an encoder."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.errors import ConfigError


def with_pipeline(dataset: Mapping[str, Any], pipeline: Sequence[Any], **changes: Any) -> dict[str, Any]:
    """Return the config of a data set with another pipeline, which runs on PIL images.

    ``fast`` belongs to the replaced pipeline: the new one may hold transforms without a fast form, and its
    user may not apply operations that a fast pipeline leaves to the device.

    Args:
        dataset: Config of a data set; it is not changed.
        pipeline: Configs of transforms.
        **changes: Other keys to set.
    """
    plain = {'fast': False} if 'fast' in dataset else {}
    return {**dataset, **plain, 'pipeline': pipeline, **changes}


def plain_pipeline(cfg: Config, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Deterministic transforms of any image to ``size`` with the channels of the model: the shorter side is scaled, the
    center cropped.
    """
    return [
        dict(type='LoadImage', channels=cfg.model.backbone.get('in_channels', 3)),
        dict(type='mmpretrain.torchvision/Resize', size=max(size), interpolation='bicubic'),
        dict(type='mmpretrain.torchvision/CenterCrop', size=size),
        dict(type='mmpretrain.PackInputs'),
    ]


def image_size(cfg: Config, backbone: Any) -> tuple[int, int]:
    """Height and width of the images that an encoder was trained on.

    A ViT is built for one size; for other encoders it is ``image_size`` of the config, the last size in the pipeline of
    the training data, or that of the data set.

    Raises:
        ConfigError: If none of them defines it.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    pipeline = list(_sizes(dataset.get('pipeline', [])))
    given = (cfg.get('image_size'), getattr(backbone, 'img_size', None))
    for size in (*given, *reversed(pipeline), dataset.get('window'), dataset.get('img_size')):
        if size is not None:
            return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    raise ConfigError('the config does not define the image size: its training pipeline has no crop with a size')


def _sizes(steps: Any) -> Iterator[Any]:
    """All values of ``size`` in the steps of a pipeline, also of those inside views, in their order."""
    if isinstance(steps, Mapping):
        if steps.get('size') is not None:
            yield steps['size']
        for value in steps.values():
            yield from _sizes(value)
    elif isinstance(steps, list | tuple):
        for step in steps:
            yield from _sizes(step)


def folder_pipeline(cfg: Config, backbone: Any) -> list[dict[str, Any]]:
    """Deterministic transforms of images of any size: those of ``evaluation.test`` if they bring images to one size,
    else :func:`plain_pipeline`.
    """
    steps = ((cfg.get('evaluation') or {}).get('test') or {}).get('pipeline') or []
    steps = [dict(step) for step in steps if isinstance(step, Mapping)]
    if any('size' in step for step in steps):
        return steps
    return plain_pipeline(cfg, image_size(cfg, getattr(backbone, 'backbone', backbone)))
