"""Frozen encoders: built, loaded from a checkpoint of any format, and cut after a block."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.checkpoints import GraftSource, depth_of, graft_weights, parse_graft, patch_grid, traits_of
from mmselfsup_graft.downloads.resolve import resolve_sources
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.registry import MODELS

from .pooling import default_feature, pool_output


def load_backbone(
    backbone: dict,
    checkpoint: str | os.PathLike | Mapping[str, Any] | None,
    seed: int = 0,
    block: int | None = None,
) -> nn.Module:
    """Build an encoder and load a checkpoint of any known format, or keep initial weights if there is none.

    Args:
        backbone: Config of the encoder.
        checkpoint: File to load all weights from, ``zoo:NAME``, or ``dict(checkpoint=..., branch=..., format=...,
            grid=(H, W))`` as in a graft; None for a random encoder.
        seed: Seed of the initial weights.
        block: Return the feature after this number of blocks (see :class:`BlockFeature`); None for the final feature.

    Returns:
        The encoder in eval mode. Its attribute ``checkpoint_format`` names the format of the file, or is None;
        ``checkpoint_traits`` holds properties stored in the file besides tensors, ``checkpoint_notes`` notes for the
        user.

    Raises:
        CheckpointError: If any tensor of the encoder is missing in the file or has another shape, or the file's encoder
            has tensors that this one cannot take, or another number of attention heads.
        ConfigError: If there is no such block.
    """
    refuse_pretrained_init(backbone, 'evaluation')
    if checkpoint is not None:  # which replaces all weights that a timm model would start from
        backbone = {name: value for name, value in backbone.items() if name != 'pretrained'}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = MODELS.build(backbone)
        model._dump_init_info = lambda *_: None  # mmengine would list every tensor on the terminal
        model.init_weights()
    found, told, notes = None, None, []
    if checkpoint is not None:
        optional = getattr(model, 'graft_optional', ())
        source = resolve_sources([_whole(checkpoint)])
        weights, report = graft_weights(
            source, model.state_dict(), depth_of(model), patch_grid(model), optional, traits_of(model)
        )
        model.load_state_dict(weights, strict=False)
        (found,) = report.formats.values()
        (told,) = report.traits.values()
        (notes,) = report.notes.values()
    model = model if block is None else BlockFeature(model, block)
    model.checkpoint_format, model.checkpoint_traits, model.checkpoint_notes = found, told, notes
    model.eval()  # returns None for mmpretrain's backbones
    return model


def _whole(checkpoint: str | os.PathLike | Mapping[str, Any]) -> GraftSource:
    """A file as the source of a whole encoder.

    Raises:
        ConfigError: If a range of layers is given.
    """
    if not isinstance(checkpoint, Mapping):
        return GraftSource(str(checkpoint))
    if checkpoint.get('layers') is not None:
        raise ConfigError('a frozen encoder is loaded from one file: leave layers out')
    (source,) = parse_graft([checkpoint])
    return source


class BlockFeature(nn.Module):
    """The feature after block k of an encoder, for any backbone with a known depth.

    Tokens [B, L, D] yield the class token without the final norm (the mean of the tokens where there is no class
    token), maps [B, D, H, W] are averaged over H and W. :func:`encode_images` also takes the mean of the patch tokens.

    Args:
        backbone: The encoder.
        block: Number of the last block, counted from 1.

    Raises:
        ConfigError: If the encoder has fewer blocks.
    """

    def __init__(self, backbone: nn.Module, block: int) -> None:
        super().__init__()
        depth = depth_of(backbone)
        if not 1 <= block <= depth.num_blocks:
            raise ConfigError(f'block {block} does not exist: the encoder has blocks 1 to {depth.num_blocks}')
        self.backbone = backbone
        # the last prefix of a block is the block itself; others (a down-sampling layer) come before it
        self._handle = backbone.get_submodule(depth.blocks[block - 1][-1]).register_forward_hook(self._keep)
        self._output: torch.Tensor | None = None

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, list | tuple) else output
        usual = getattr(self.backbone, 'channels_first', None)  # of a timm model, whose maps may have channels last
        self._output = usual(output) if usual else output

    def block_output(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the block for images [B, C, H, W]: tokens [B, L, D] or a map [B, D, H, W]."""
        # a path for the class token only may skip modules; `encode` calls all of them
        run = getattr(self.backbone, 'encode', self.backbone)
        run(x)
        output, self._output = self._output, None
        if output is None:
            raise ConfigError(f'{type(self.backbone).__name__} does not call the module of this block')
        return output

    def release(self) -> None:
        """Leave the encoder as it was: outputs of the block are not kept any more."""
        self._handle.remove()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """Feature [B, D] of images [B, C, H, W], as a tuple like that of a backbone."""
        return (pool_output(self, self.block_output(x), default_feature(self)),)


class Pixels(nn.Module):
    """Placeholder for an encoder that returns the pixels in [0, 1]."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """[B, C * H * W] of images [B, C, H, W] in 0..255, as a tuple like that of a backbone."""
        return (x.flatten(1) / 255.0,)
