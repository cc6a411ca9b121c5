"""Depth: the layer of a parameter, from its canonical (mmpretrain) name.

Layer ids are the same everywhere in the toolbox: ``0`` is the stem (patch embedding, class token, position table,
or the stem convolution), ``i + 1`` is block ``i`` and ``num_blocks + 1`` is everything after the last block (final
norm, projector, heads). The learning-rate constructor, freezing, grafting, the L1 distance and the conflict analysis
all use :meth:`Depth.layer_id`; no other code maps names to layers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn as nn

from mmselfsup_graft.errors import ConfigError

from .families import FAMILIES, MASK_TOKENS, Family


@dataclass(frozen=True)
class Depth:
    """The order of a backbone's layers.

    Args:
        stem: Name prefixes (whole dotted components) of layer 0.
        blocks: For every block, from the first to the last, the name prefixes that belong to it.
    """

    stem: tuple[str, ...]
    blocks: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        lookup = dict.fromkeys(self.stem, 0)
        lookup.update({prefix: i + 1 for i, prefixes in enumerate(self.blocks) for prefix in prefixes})
        object.__setattr__(self, '_lookup', lookup)

    @property
    def num_blocks(self) -> int:
        """Number of blocks, e.g. 12 for ViT-B and 16 for ResNet-50."""
        return len(self.blocks)

    def layer_id(self, name: str) -> int:
        """Return the layer of the backbone parameter ``name``: 0, ``i + 1`` or ``num_blocks + 1``.

        Args:
            name: Dotted parameter name without any prefix of the model that holds the backbone.
        """
        lookup: dict[str, int] = self._lookup  # type: ignore[attr-defined]
        prefix = name
        while prefix:
            if prefix in lookup:
                return lookup[prefix]
            prefix = prefix.rpartition('.')[0]
        return self.num_blocks + 1

    def knows(self, name: str) -> bool:
        """Whether the layer of a parameter is known: of the stem, of a block, or a norm or head after the last one."""
        return self.layer_id(name) <= self.num_blocks or re.match(_AFTER_BLOCKS, name) is not None


def vit_depth(num_layers: int) -> Depth:
    """Depth of a vision transformer with ``num_layers`` blocks."""
    return _depth(FAMILIES['vit'], (num_layers,))


def resnet_depth(stage_blocks: Iterable[int]) -> Depth:
    """Depth of a ResNet with ``stage_blocks`` residual blocks per stage; a block owns its shortcut."""
    return _depth(FAMILIES['resnet'], stage_blocks)


def convnext_depth(depths: Iterable[int]) -> Depth:
    """Depth of a ConvNeXt; the down-sampling layer before a stage belongs to that stage's first block."""
    return _depth(FAMILIES['convnext'], depths)


def _depth(family: Family, stage_blocks: Iterable[int]) -> Depth:
    """Depth of a backbone of a family; the layer before a stage belongs to the stage's first block."""
    blocks = []
    for stage, count in enumerate(stage_blocks, family.first_stage):
        for block in range(count):
            own = (family.block.format(stage=stage, block=block),)
            first = family.before_stage and stage > family.first_stage and block == 0
            blocks.append((family.before_stage.format(stage=stage, before=stage - 1), *own) if first else own)
    # mask tokens count as stem, whatever layer they act on
    return Depth((*family.stem, *MASK_TOKENS), tuple(blocks))


def depth_from_names(names: Iterable[str]) -> Depth:
    """Infer the depth from canonical parameter names of a ViT, Swin, ResNet or ConvNeXt.

    Raises:
        ConfigError: If some names are of none of these families: they would count as
            lying after the last block.
    """
    names = list(names)
    depth = _depth_of_names(names)
    lost = [n for n in names if depth.layer_id(n) > depth.num_blocks and not re.match(_AFTER_BLOCKS, n)]
    if lost:
        raise ConfigError(
            f'cannot infer the depth of this backbone: {lost[0]} belongs to no known layer; give the backbone '
            'class a `depth` property returning a Depth'
        )
    return depth


# norms and heads; the relative table that all blocks of a BEiT share
_AFTER_BLOCKS = r'(ln|norm|fc|head|rel_pos_bias|cls_token_mlp|pooler)\w*(\.|$)'


def _depth_of_names(names: list[str]) -> Depth:
    for family in FAMILIES.values():
        blocks = family.blocks(names)
        if blocks:
            return _depth(family, [1 + max(numbers) for numbers in blocks.values()])
    raise ConfigError(
        'cannot infer the depth of this backbone: its parameter names are neither those of a ViT (layers.N), Swin '
        '(stages.N.blocks.M), ResNet (layerN.M) nor ConvNeXt (stages.N.M); give the backbone class a `depth` property '
        'returning a Depth'
    )


def depth_of(backbone: nn.Module) -> Depth:
    """Depth of a built backbone: its own ``depth`` property if it has one, else inferred from its parameter names."""
    own = getattr(backbone, 'depth', None)
    return own if isinstance(own, Depth) else depth_from_names(name for name, _ in backbone.named_parameters())
