"""Architecture of an encoder, inferred from the shapes of its tensors and its file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmselfsup_graft.checkpoints.families import GATED, Family
from mmselfsup_graft.checkpoints.formats.encoder import Encoder, StateDict
from mmselfsup_graft.errors import CheckpointError


@dataclass(frozen=True)
class Architecture:
    """Architecture of an encoder, inferred from the shapes of its tensors and its file.

    Attributes:
        family: ``vit``, ``beit``, ``swin``, ``convnext`` or ``resnet``; ``timm`` for a model of timm, of which only
            ``timm`` below tells more.
        blocks: Blocks per stage; a ViT has one stage.
        widths: Channels of the blocks in each stage; a bottleneck's before it widens.
        in_channels: Channels of the images.
        hidden: Width inside the feed-forward layers of a ViT, otherwise 0.
        patch_size: Pixels of a patch of a ViT or Swin, otherwise 0.
        img_size: (H, W) in pixels that absolute positions, or a ViT's relative ones, are for; (0, 0) if
            unknown.
        stem_kernel: Kernel of the first convolution in pixels.
        num_heads: Attention heads of a ViT; 0 if unknown.
        registers: Register tokens of a ViT.
        norm_eps: Epsilon of the layer norms; 0 if unknown.
        act: Activation of the feed-forward layers, see :class:`Traits`; '' if unknown.
        style: ``caffe`` if the strides of a ResNet's bottlenecks are in their first convolution, ``pytorch`` if in the
            3 x 3 one; '' if unknown.
        strides: Of the stages of a ResNet; empty if unknown.
        dilations: Likewise.
        timm: The call of ``timm.create_model`` for a model of timm; None if unknown.
        feature: The feature that the encoder was trained to give, see :class:`Traits`; '' if unknown.
        classes: Names of the classes, if a classifier follows.
    """

    family: str
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    in_channels: int = 3
    hidden: int = 0
    patch_size: int = 0
    img_size: tuple[int, int] = (0, 0)
    stem_kernel: int = 0
    num_heads: int = 0
    registers: int = 0
    norm_eps: float = 0.0
    act: str = ''
    style: str = ''
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    timm: Mapping[str, Any] | None = None
    feature: str = ''
    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Channels of the first stage."""
        return self.widths[0]

    @property
    def unusual_stages(self) -> dict[str, tuple[int, ...]]:
        """Strides and dilations of a ResNet's stages, where they are not the usual ones; keyed by option."""
        told = {'strides': (self.strides, (1, 2, 2, 2)), 'dilations': (self.dilations, (1, 1, 1, 1))}
        return {key: found for key, (found, usual) in told.items() if found != usual[: len(found)]}

    def __str__(self) -> str:
        if self.family == 'timm':
            return f'a model of timm: {self.timm["model_name"] if self.timm else "unknown"}'
        blocks, widths = ('-'.join(map(str, each)) for each in (self.blocks, self.widths))
        patch = f', patches of {self.patch_size} px' if self.patch_size else ''
        size = f', images of {" x ".join(map(str, self.img_size))} px' if all(self.img_size) else ''
        heads = f', {self.num_heads} heads' if self.num_heads else ''
        tokens = f', {self.registers} registers' if self.registers else ''
        inputs = '' if self.in_channels == 3 else f', input channels: {self.in_channels}'
        return f'{self.family} with {blocks} blocks, {widths} channels{heads}{tokens}{patch}{size}{inputs}'


# far more than any model has, and little enough to build one
_MOST_BLOCKS = 1000
_MAX_RATIO, _ALWAYS_ALLOWED = 4, 2**24  # times what the file holds; numbers
_MOST_TABLE_ROWS = (2 * 64) ** 2  # windows of 64 x 64 patches


def architecture_of(encoder: Encoder, img_size: tuple[int, int] | None = None) -> Architecture:
    """Infer the architecture from the shapes of an encoder with canonical names.

    Args:
        encoder: The encoder.
        img_size: (H, W) in pixels if known; None uses the grid stored in the file, else a square position table.

    Raises:
        CheckpointError: If a required tensor is missing or has a wrong shape, or shapes contradict
            each other.
    """
    family, state = encoder.family, encoder.state
    if family.name == 'timm':
        return _of_timm(encoder)
    _check_needed(encoder, family)
    width, in_channels, _, kernel = state[family.stem_weight].shape
    blocks = family.blocks(state)
    found = Architecture(
        family=family.name,
        blocks=tuple(len(numbers) for numbers in blocks.values()),
        widths=tuple(_width_of_stage(encoder, family, stage, width * 2**i) for i, stage in enumerate(blocks)),
        in_channels=in_channels,
        hidden=_hidden(state) if family.is_vit else 0,
        patch_size=kernel if family.has_patches else 0,
        img_size=(img_size or _size_of(encoder, kernel)) if encoder.has_position_table else (0, 0),
        stem_kernel=kernel,
        num_heads=_heads_of(encoder, width) if family.is_vit else 0,
        registers=state['register_tokens'].shape[1] if 'register_tokens' in state else 0,
        norm_eps=encoder.traits.norm_eps or 0.0,
        act=encoder.traits.act or '',
        style=encoder.traits.style or '',
        strides=encoder.traits.strides or (),
        dilations=encoder.traits.dilations or (),
        feature=encoder.traits.feature or '',
    )
    _check_plausible(encoder, found)
    return found


def _of_timm(encoder: Encoder) -> Architecture:
    """What is known of a model of timm: the call that the file states, and the channels of its first convolution."""
    call = encoder.traits.timm
    channels = [entry.tensor.shape[1] for entry in encoder.entries if entry.tensor.ndim == 4]
    told = (call or {}).get('in_chans', channels[0] if channels else 3)
    return Architecture(family='timm', blocks=(), widths=(0,), in_channels=told, timm=call)


def _check_needed(encoder: Encoder, family: Family) -> None:
    """Refuse an encoder that lacks a tensor from which sizes are read, or has it with other dimensions."""
    state = encoder.state
    needed = {family.stem_weight: 4, **({_first_linear(state): 2} if family.is_vit else {}), **family.needed}
    for name in needed:
        if name not in state:
            there = [each for each in state if each.startswith(name.partition('.')[0])] or list(state)
            raise CheckpointError(
                f'{encoder.origin}: {name} is missing, found {", ".join(there[:3])} ...; check the file '
                f'and the kind of {family.name}'
            )
        _check_dimensions(encoder, name, needed[name])
    for pattern, dimensions in family.sizes.items():
        for name in (name for name in state if re.match(pattern, name)):
            _check_dimensions(encoder, name, dimensions)


def _check_plausible(encoder: Encoder, arch: Architecture) -> None:
    """Refuse shapes that contradict each other: a model built from them could be far larger than the file."""
    per_block = [4 * w * w + 2 * w * arch.hidden if arch.hidden else 8 * w * w for w in arch.widths]
    stem = arch.width * arch.in_channels * arch.stem_kernel**2
    needed = stem + sum(count * size for count, size in zip(arch.blocks, per_block))
    given = sum(entry.tensor.numel() for entry in encoder.entries)
    rows = [e.tensor.shape[0] for e in encoder.entries if e.name.endswith('relative_position_bias_table')]
    if (
        needed > max(_MAX_RATIO * given, _ALWAYS_ALLOWED)
        or sum(arch.blocks) > _MOST_BLOCKS
        or max(rows, default=0) > _MOST_TABLE_ROWS
    ):
        raise CheckpointError(
            f'{encoder.origin}: the shapes of its tensors contradict each other ({arch} would need {needed:,} numbers, '
            f'it holds {given:,}); the file may be damaged'
        )


def _check_dimensions(encoder: Encoder, name: str, expected: int) -> None:
    shape = tuple(encoder.state[name].shape)
    if len(shape) != expected:
        raise CheckpointError(f'{encoder.origin}: {name} has {len(shape)} dimensions, expected {expected}')
    if 0 in shape:
        raise CheckpointError(f'{encoder.origin}: {name} is empty, its shape is {shape}')


def _width_of_stage(encoder: Encoder, family: Family, stage: int, usual: int) -> int:
    name = family.stage_weight.format(stage=stage)
    if name and name not in encoder.state:
        raise CheckpointError(f'{encoder.origin}: {name} is missing; check that the file is complete')
    return encoder.state[name].shape[0] if name else usual


def _first_linear(state: StateDict) -> str:
    """Name of the first weight of the feed-forward layers, gated or not."""
    gated = 'layers.0.ffn.w12.weight'
    return gated if gated in state else 'layers.0.ffn.layers.0.0.weight'


def _hidden(state: StateDict) -> int:
    """Width inside the feed-forward layers: for a gated one the value that its class takes, 1.5 times the width."""
    name = _first_linear(state)
    rows = state[name].shape[0]
    return rows // 2 * 3 // 2 if re.match(GATED, name) else rows


def _heads_of(encoder: Encoder, width: int) -> int:
    """Attention heads from relative position tables or the file; 0 if unknown.

    Raises:
        CheckpointError: If they do not divide the width.
    """
    tables = [v for n, v in encoder.state.items() if n.endswith('relative_position_bias_table') and v.ndim == 2]
    heads = tables[0].shape[1] if tables else encoder.traits.num_heads or 0
    if heads and width % heads:
        raise CheckpointError(f'{encoder.origin}: {heads} attention heads do not divide a width of {width}')
    return heads


def _size_of(encoder: Encoder, patch_size: int) -> tuple[int, int]:
    """Size of the images in pixels for which position tables are; (0, 0) if unknown."""
    grid = encoder.traits.grid
    return (grid[0] * patch_size, grid[1] * patch_size) if grid else _square_size(encoder.state, patch_size)


def _square_size(state: StateDict, patch_size: int) -> tuple[int, int]:
    """Size of the square images for which position tables are; (0, 0) if they are not for square ones."""
    tables = [value for name, value in state.items() if name.endswith('relative_position_bias_table')]
    if 'pos_embed' in state:
        patches = state['pos_embed'].shape[1] - ('cls_token' in state)
    elif 'absolute_pos_embed' in state:
        patches = state['absolute_pos_embed'].shape[1]
    elif tables:  # (2 n - 1)^2 + 3 rows for n x n patches
        patches = ((round(max(0, tables[0].shape[0] - 3) ** 0.5) + 1) // 2) ** 2
    else:
        patches = 0
    side = round(patches**0.5)
    return (side * patch_size,) * 2 if side * side == patches else (0, 0)
