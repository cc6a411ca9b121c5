"""Memory format of convolutional encoders."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.errors import ConfigError


def use_channels_last(backbone: Any) -> None:
    """Let a convolutional encoder use the channels-last memory format, which is faster for convolutions.

    Weights keep their names, shapes and values; input images are converted to the format.

    Args:
        backbone: A ResNet, a ConvNeXt or similar; copies of it behave the same.

    Raises:
        ConfigError: If it is a transformer, whose features are tokens.
    """
    if hasattr(backbone, 'patch_embed'):
        raise ConfigError(
            f'channels_last=True is for convolutional backbones; {type(backbone).__name__} has tokens, leave it out'
        )
    backbone.channels_last = True
    backbone.to(memory_format=torch.channels_last)
    backbone.register_forward_pre_hook(_images_channels_last)


def _images_channels_last(module: nn.Module, inputs: tuple) -> tuple:
    return inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:]


@contextmanager
def contiguous_format(model: nn.Module) -> Iterator[None]:
    """Within the block, weights have the contiguous format: random draws fill memory in order."""
    encoders = [module for module in model.modules() if getattr(module, 'channels_last', False)]
    for encoder in encoders:
        encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        yield
    finally:
        for encoder in encoders:
            encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
