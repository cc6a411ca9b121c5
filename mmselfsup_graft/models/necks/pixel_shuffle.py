"""One-layer decoder of SimMIM."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class PixelShuffleNeck(BaseModule):
    """Predict ``stride x stride`` pixels from every position of a feature map (SimMIM, arXiv 2111.09886, section 3.3).

    A 1x1 convolution and a pixel shuffle. Differs from mmpretrain's SimMIMLinearDecoder in that images may have any
    number of channels, and in the published initialisation (truncated normal 0.02, bias 0).

    Args:
        in_channels: Channels of the map.
        stride: Stride of the encoder in pixels; images are ``stride`` times as large as the map.
        out_channels: Channels of the images.

    Raises:
        ConfigError: If a size is not positive.
    """

    def __init__(self, in_channels: int, stride: int, out_channels: int = 3) -> None:
        super().__init__()
        if min(in_channels, stride, out_channels) < 1:
            raise ConfigError(
                f'PixelShuffleNeck: in_channels={in_channels}, stride={stride} and out_channels={out_channels} must '
                'be at least 1'
            )
        self.decoder = nn.Sequential(nn.Conv2d(in_channels, stride**2 * out_channels, 1), nn.PixelShuffle(stride))

    def init_weights(self) -> None:
        """Truncated normal 0.02, bias 0."""
        super().init_weights()
        convolution: Any = self.decoder[0]
        nn.init.trunc_normal_(convolution.weight, std=0.02)
        nn.init.zeros_(convolution.bias)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Images [B, C, H * stride, W * stride] from the last of the encoder's maps, [B, D, H, W].

        Raises:
            ConfigError: If the encoder gives no map.
        """
        if features[-1].dim() != 4:
            raise ConfigError(
                f'PixelShuffleNeck needs a map [B, D, H, W], got features of shape {tuple(features[-1].shape)}; '
                'a ViT gives one with out_type="featmap"'
            )
        return self.decoder(features[-1])
