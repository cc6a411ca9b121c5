"""Last stage of a ResNet as a head on regions, with a norm after it."""

from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones.resnet import ResLayer, ResNet

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class ResLayerExtraNorm(BaseModule):
    """Stage of a ResNet and a norm on what it gives: the ``shared_head`` of MoCo's C4 detectors (arXiv 1911.05722).

    Differs from mmdet's ``ResLayer`` by the norm, and in that batch statistics are never frozen.

    Args:
        depth: Depth of the ResNet, e.g. 50.
        stage: Which stage, from 0; its tensors are called ``layer{stage + 1}.*`` as in the ResNet.
        base_channels: Channels of the ResNet's first stage, e.g. 64, or 128 of a ResNet-50 twice as wide.
        stride: Stride of its first block, in the 3x3 convolution.
        norm_cfg: Norm of the blocks and of the one behind them.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` fills the stage; the norm has no counterpart there.

    Raises:
        ConfigError: If there is no such ResNet or stage.
    """

    #: a checkpoint of a ResNet has none
    graft_optional = ('norm.',)

    def __init__(
        self,
        depth: int = 50,
        stage: int = 3,
        base_channels: int = 64,
        stride: int = 2,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        fresh = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1, layer=['_BatchNorm'])]
        super().__init__([*fresh, *([init_cfg] if init_cfg else [])])
        if depth not in ResNet.arch_settings or stage not in range(4):
            raise ConfigError(f'ResLayerExtraNorm: no stage {stage} of a ResNet-{depth}; stages are 0 to 3')
        block, blocks = ResNet.arch_settings[depth]
        expansion = 4 if depth >= 50 else 1
        width = base_channels * 2**stage * expansion
        norm_cfg = norm_cfg or dict(type='SyncBN', requires_grad=True)
        self.stage_name = f'layer{stage + 1}'
        layer = ResLayer(
            block,
            blocks[stage],
            in_channels=width // 2 if stage else base_channels,
            out_channels=width,
            expansion=expansion,
            stride=stride,
            norm_cfg=norm_cfg,
        )
        self.add_module(self.stage_name, layer)
        self.norm = build_norm_layer(norm_cfg, width)[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of regions [N, C, H, W] -> [N, 2 C, H / stride, W / stride]; of the first stage the width is another."""
        return self.norm(getattr(self, self.stage_name)(x))
