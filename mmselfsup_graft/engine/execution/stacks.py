"""The residual blocks of a model: what is recomputed, or gathered from all processes, one at a time."""

from collections.abc import Iterator

from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck
from mmpretrain.models.backbones.swin_transformer import SwinBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn

from mmselfsup_graft.errors import ConfigError

#: classes of blocks; those of BEiT and of all decoders are subclasses or members
BLOCKS: tuple[type[nn.Module], ...] = (TransformerEncoderLayer, SwinBlock, ConvNeXtBlock, BasicBlock, Bottleneck)


def block_stacks(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Yield the stacks of blocks in a model: of its encoder, its decoder and its momentum encoder.

    A stack holds the blocks of one container in the order in which they are passed. Which block of it has trained
    weights makes no difference; modules that are not registered (TEC's base model) are not found.

    Raises:
        ConfigError: If the model has no block of a known class.
    """
    stacks = [
        [child for child in module.children() if isinstance(child, BLOCKS)]
        for module in model.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
    ]
    if not any(stacks):
        known = ', '.join(block.__name__ for block in BLOCKS)
        raise ConfigError(f'{type(model).__name__} has no blocks of a known class; known: {known}')
    yield from filter(None, stacks)
