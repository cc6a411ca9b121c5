"""One-layer decoder of SimMIM and A2MIM."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import last_map
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class PixelShuffleNeck(BaseModule):
    """Predict ``stride x stride`` pixels from every position of a feature map (SimMIM, arXiv 2111.09886, section 3.3).

    A convolution, 1x1 in the published recipes, and a pixel shuffle, for A2MIM (arXiv 2205.13943) perhaps with a block
    before it. Differs from mmpretrain's SimMIMLinearDecoder in that images may have any number of channels, and in the
    published initialization (truncated normal 0.02, bias 0).

    Args:
        in_channels: Channels of the map.
        stride: Stride of the encoder in pixels; images are ``stride`` times as large as the map.
        out_channels: Channels of the images.
        block_kernel: Odd side of a depth-wise convolution, followed by a channel norm and GELU, before the prediction;
            0 for none.
        kernel_size: Odd side of the convolution that predicts, padded with zeros such that the map keeps its size.

    Raises:
        ConfigError: If a size is not positive, or a kernel even.
    """

    def __init__(
        self, in_channels: int, stride: int, out_channels: int = 3, block_kernel: int = 0, kernel_size: int = 1
    ) -> None:
        super().__init__()
        if min(in_channels, stride, out_channels) < 1:
            raise ConfigError(
                f'PixelShuffleNeck: in_channels={in_channels}, stride={stride} and out_channels={out_channels} must '
                'be at least 1'
            )
        if block_kernel < 0 or (block_kernel and block_kernel % 2 == 0):
            raise ConfigError(f'PixelShuffleNeck: block_kernel={block_kernel} must be odd, or 0 for no block')
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ConfigError(
                f'PixelShuffleNeck: kernel_size={kernel_size} must be odd: the padding of an even kernel would change '
                'the size of the map'
            )
        self.block = _depth_wise_block(in_channels, block_kernel) if block_kernel else nn.Identity()
        prediction = nn.Conv2d(in_channels, stride**2 * out_channels, kernel_size, padding=kernel_size // 2)
        self.decoder = nn.Sequential(prediction, nn.PixelShuffle(stride))

    def init_weights(self) -> None:
        """Truncated normal 0.02, bias 0."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Images [B, C, H * stride, W * stride] from the last of the encoder's maps, [B, D, H, W].

        Raises:
            ConfigError: If the encoder gives no map.
        """
        return self.decoder(self.block(last_map('PixelShuffleNeck', features)))


def _depth_wise_block(width: int, kernel: int) -> nn.Module:
    """Depth-wise convolution without bias, norm over channels, GELU."""
    convolution = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    return nn.Sequential(convolution, LayerNorm2d(width, eps=1e-5), nn.GELU())
