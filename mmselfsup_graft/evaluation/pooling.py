"""One vector per image from the output of an encoder: its class token, the mean of its patch tokens, or both."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import check_images

#: names of features; ``both`` is the class token [B, D] followed by the mean of the patches [B, D]
FEATURES = ('class_token', 'patch_mean', 'both')


def has_class_token(backbone: nn.Module) -> bool:
    """Whether an encoder, or the encoder inside a :class:`BlockFeature`, has a class token."""
    return getattr(getattr(backbone, 'backbone', backbone), 'cls_token', None) is not None


def extra_tokens(backbone: nn.Module) -> int:
    """Number of tokens before the patches: class token and registers."""
    encoder = getattr(backbone, 'backbone', backbone)
    return int(getattr(encoder, 'num_extra_tokens', has_class_token(backbone)))


def default_feature(backbone: nn.Module) -> str:
    """The feature that is an encoder's own output: ``class_token`` or ``patch_mean``.

    ``patch_mean`` for an encoder without a class token and for one with such an ``out_type`` (``featmap``,
    ``avg_featmap``).
    """
    of_patches = getattr(backbone, 'out_type', None) in ('featmap', 'avg_featmap')
    return 'class_token' if has_class_token(backbone) and not of_patches else 'patch_mean'


def check_features(backbone: nn.Module, features: Sequence[str] | None = None) -> tuple[str, ...]:
    """The features to take; None means the encoder's own.

    Raises:
        ConfigError: If a name is unknown, or a class token is requested but missing.
    """
    if features is None:
        return (default_feature(backbone),)
    for name in features:
        if name not in FEATURES:
            raise ConfigError(f'feature is {name!r}; choose from {", ".join(FEATURES)}')
        if name != 'patch_mean' and not has_class_token(backbone):
            kind = type(getattr(backbone, 'backbone', backbone)).__name__
            raise ConfigError(f'feature {name!r}: {kind} has no class token; use patch_mean')
    return tuple(features)


def feature_parts(features: Sequence[str]) -> tuple[str, ...]:
    """The features that have to be computed: ``both`` is joined from the other two."""
    parts = ('class_token', 'patch_mean')
    return tuple(part for part in parts if part in features or 'both' in features)


def encode_images(backbone: nn.Module, images: torch.Tensor, parts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Features [B, D] float32 of images by name, by one forward pass.

    ``patch_mean`` of a vision transformer is the mean of its patch tokens after the final norm (of a block: after the
    block, without any norm); with ``out_type='avg_featmap'`` the encoder's own norm of the mean follows. Of a map
    [B, D, H, W] it is the mean over H and W, and of an encoder that gives one vector per image it is that vector.

    Args:
        backbone: Encoder in eval mode.
        images: [B, C, H, W], normalized.
        parts: ``class_token``, ``patch_mean`` or both of them, see :func:`feature_parts`.

    Raises:
        ConfigError: If the output holds no such feature.
    """
    check_images('scoring', backbone, images)
    if tuple(parts) == (default_feature(backbone),):
        output = backbone(images)[-1]  # an encoder may be faster if only its class token is needed
    else:
        output = token_output(backbone, images)
    return {part: pool_output(backbone, output, part).float() for part in parts}


def token_output(backbone: Any, images: torch.Tensor) -> torch.Tensor:
    """Tokens [B, L, D] after the final norm, or another output of the encoder, for images [B, C, H, W]."""
    if hasattr(backbone, 'block_output'):
        return backbone.block_output(images)
    with _all_tokens(backbone):
        return backbone(images)[-1]


@contextmanager
def _all_tokens(backbone: Any) -> Iterator[None]:
    """Within the block, let a vision transformer of mmpretrain return all its tokens."""
    kept = getattr(backbone, 'out_type', None)
    if 'raw' not in getattr(backbone, 'OUT_TYPES', ()):
        yield
        return
    backbone.out_type = 'raw'
    try:
        yield
    finally:
        backbone.out_type = kept


def pool_output(backbone: Any, output: torch.Tensor, part: str) -> torch.Tensor:
    """One vector per image [B, D], ``class_token`` or ``patch_mean``.

    Args:
        backbone: The encoder, for the number of its extra tokens.
        output: Its output: [B, D], tokens [B, L, D] or a map [B, D, H, W].
        part: Which of the two.

    Raises:
        ConfigError: If the output holds no such feature.
    """
    if output.dim() == 2 and part == default_feature(backbone):
        return output
    if output.dim() == 3 and part == 'class_token':
        return output[:, 0]
    if output.dim() == 4 and part == 'patch_mean':
        return output.flatten(2).mean(2)
    if output.dim() != 3:
        kind, shape = type(getattr(backbone, 'backbone', backbone)).__name__, tuple(output.shape)
        raise ConfigError(f'feature {part!r}: {kind} gives an output of shape {shape}, expected tokens')
    mean = output[:, extra_tokens(backbone) :].mean(1)
    return backbone.ln2(mean) if getattr(backbone, 'out_type', None) == 'avg_featmap' else mean
