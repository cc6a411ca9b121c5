"""Sizes of a model's parts that follow from other parts: filled in, or an error if given and different."""

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from mmpretrain.models import BEiTViT, SwinTransformer
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

_PROBE = 64  # pixels of the image that shows the sizes of a convolutional network


class EncoderSizes(NamedTuple):
    """Sizes of an encoder that later parts need.

    Attributes:
        channels: Of the last feature; None if it is not known.
        in_channels: Of the images; likewise.
        stride: Pixels of an image per position of the last feature map, the patch size of a plain transformer; None
            if the feature is not a map.
        num_patches: Of a plain transformer; None for others, which take images of any size.
    """

    channels: int | None
    in_channels: int | None
    stride: int | None
    num_patches: int | None = None


def sizes_of(backbone: nn.Module) -> EncoderSizes:
    """Sizes of an encoder: read from a transformer, measured with a small image for a convolutional network.

    A backbone may know them itself, as its property ``sizes``. They are unknown for an encoder without a convolution,
    and for one that cannot process the small image.
    """
    own = getattr(backbone, 'sizes', None)
    if isinstance(own, EncoderSizes):
        return own
    in_channels = _image_channels(backbone)
    if in_channels is None:
        return EncoderSizes(None, None, None)
    if isinstance(backbone, SwinTransformer):
        last = backbone.out_indices[-1]
        stride = backbone.patch_embed.projection.stride[0] * 2 ** (last + backbone.out_after_downsample)
        return EncoderSizes(int(backbone.num_features[last]), in_channels, stride)
    if hasattr(backbone, 'patch_resolution'):
        vit: Any = backbone
        rows, columns = vit.patch_resolution
        return EncoderSizes(vit.embed_dims, in_channels, vit.patch_embed.projection.kernel_size[0], rows * columns)
    return _measured(backbone, in_channels)


@torch.no_grad()
def _measured(backbone: nn.Module, in_channels: int) -> EncoderSizes:
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()  # the statistics of batch norm stay as they are
    try:
        feature = backbone(torch.zeros(1, in_channels, _PROBE, _PROBE))[-1]
    except (RuntimeError, ValueError, AssertionError):  # a custom encoder for images of one size
        return EncoderSizes(None, in_channels, None)
    finally:
        for module, mode in modes.items():
            module.training = mode
    stride = _PROBE // feature.shape[-1] if feature.dim() == 4 else None
    return EncoderSizes(feature.shape[1], in_channels, stride)


def last_map(owner: str, features: Sequence[torch.Tensor]) -> torch.Tensor:
    """The last of an encoder's features, [B, D, H, W].

    Raises:
        ConfigError: If it is not a map.
    """
    if features[-1].dim() != 4:
        raise ConfigError(
            f'{owner} needs a map [B, D, H, W], got features of shape {tuple(features[-1].shape)}; a ViT gives one '
            'with out_type="featmap", a ConvNeXt with gap_before_final_norm=False'
        )
    return features[-1]


def _image_channels(backbone: nn.Module) -> int | None:
    return next((module.in_channels for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)


def fit(owner: str, part: str, given: Mapping[str, Any] | nn.Module | None, follows: Mapping[str, Any]) -> Any:
    """A part's config with the sizes that follow from other parts.

    Args:
        owner: Name of the algorithm, for the message.
        part: Position of the config in that of the algorithm, e.g. ``neck`` or ``head.predictor``.
        given: The config; built modules and None are returned unchanged.
        follows: Argument -> value; None and arguments that the part's class does not have are left out.

    Raises:
        ConfigError: If the config gives another value.
    """
    if given is None or isinstance(given, nn.Module):
        return given
    taken = _arguments(given)
    follows = {name: value for name, value in follows.items() if name in taken and value is not None}
    for name, value in follows.items():
        if given.get(name, value) != value:
            raise ConfigError(
                f'{owner}: {part}.{name}={given[name]}, but with its other parts it must be {value}; leave it out, '
                'to set it automatically'
            )
    return {**given, **follows}


def _arguments(config: Mapping[str, Any]) -> set[str]:
    """Names that the class of a config can be called with; empty for an unknown class, for which building fails."""
    kind = config.get('type')
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    chain = found.__mro__ if inspect.isclass(found) else []
    functions = [vars(cls)['__init__'] for cls in chain if '__init__' in vars(cls)]
    return {name for function in functions for name in inspect.signature(function).parameters}


def check_channels(owner: str, backbone: nn.Module, preprocessor: nn.Module) -> None:
    """Raise an error if means and deviations have another number of channels than the encoder; one number is allowed.

    Raises:
        ConfigError: If the numbers differ.
    """
    wanted = _image_channels(backbone)
    for name in ('mean', 'std'):
        value = getattr(preprocessor, name, None)
        if isinstance(value, torch.Tensor) and wanted and value.numel() not in (1, wanted):
            raise ConfigError(
                f'{owner}: data_preprocessor.{name} has {value.numel()} numbers, the images of the backbone have '
                f'{wanted} channels (backbone.in_channels); give both the same'
            )


def check_images(owner: str, backbone: nn.Module, images: Any) -> None:
    """Raise an error for images or views with another number of channels than the encoder, or of a size it cannot take.

    Raises:
        ConfigError: If the numbers differ, the size does and the encoder takes only one, or a map of a Swin would be
            smaller than its window.
    """
    wanted = _image_channels(backbone)
    fixed = _only_size(backbone)
    for each in images if isinstance(images, list | tuple) else [images]:
        if wanted is not None and each.dim() == 4 and each.shape[1] != wanted:
            raise ConfigError(
                f'{owner}: the images have {each.shape[1]} channels (LoadImage.channels of the pipeline), '
                f'backbone.in_channels is {wanted}; give both the same'
            )
        if fixed and each.dim() == 4 and tuple(each.shape[-2:]) != fixed:
            given, own = (' x '.join(map(str, size)) for size in (each.shape[-2:], fixed))
            raise ConfigError(
                f'{owner}: images of {given} for a backbone of {own}, which takes one size; give all crops its '
                'size, or take a backbone whose positions are resized: SelfSupViT, or for a ViT of timm '
                'options=dict(dynamic_img_size=True)'
            )
        if isinstance(backbone, SwinTransformer) and each.dim() == 4:
            _check_windows(owner, backbone, tuple(each.shape[-2:]))
    _note_image_size(owner, backbone, images)


def _check_windows(owner: str, backbone: Any, size: tuple[int, ...]) -> None:
    """Refuse images of which a stage of a Swin gets a map smaller than its window."""
    sides = [math.ceil(side / stride) for side, stride in zip(size, backbone.patch_embed.projection.stride)]
    for number, stage in enumerate(backbone.stages):
        attention = stage.blocks[0].attn
        if min(sides) < attention.window_size and not attention.pad_small_map:
            raise ConfigError(
                f'{owner}: images of {size[0]} x {size[1]} give stage {number + 1} of the Swin a map of {sides[0]} x '
                f'{sides[1]}, smaller than its window of {attention.window_size}; take larger crops, or '
                'backbone.pad_small_map=True'
            )
        sides = [math.ceil(side / 2) for side in sides]


def _only_size(backbone: Any) -> tuple[int, ...] | None:
    """Height and width of the images of an encoder that takes one size; None for one that takes others."""
    own = getattr(backbone, 'only_size', None)
    if own is not None:
        return tuple(own)
    if isinstance(backbone, BEiTViT) and (backbone.use_rel_pos_bias or backbone.rel_pos_bias is not None):
        return tuple(backbone.img_size)
    return None


def _note_image_size(owner: str, backbone: nn.Module, images: Any) -> None:
    """Log once that a transformer resizes its position table for images of another size."""
    first = images[0] if isinstance(images, list | tuple) and len(images) else images
    size = getattr(backbone, 'img_size', None)
    if not isinstance(first, torch.Tensor) or first.dim() != 4 or not isinstance(size, int | list | tuple):
        return
    wanted = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(first.shape[-2:]) != wanted and not getattr(backbone, '_said_image_size', False):
        backbone._said_image_size = True  # type: ignore[assignment]
        given, own = (' x '.join(map(str, each)) for each in (first.shape[-2:], wanted))
        print_log(
            f'{owner}: images of {given} for a backbone of {own}: its position table is resized for them in every '
            'step; if this is not intended, set model.backbone.img_size or the size of the crops',
            logger='current',
            level=logging.WARNING,
        )
