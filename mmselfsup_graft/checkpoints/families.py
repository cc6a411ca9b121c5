"""The families of backbones as data: how each names its tensors, under canonical (mmpretrain's) names.

Everything else that depends on the family reads it here: depth, architecture, formats, targets, graft.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mmselfsup_graft.errors import CheckpointError

#: what masked image modeling adds to a backbone: not part of its features
MASK_TOKENS = ('mask_token', 'mask_gamma')
#: before the names of timm's model inside of a backbone, here as in mmpretrain's TIMMBackbone
TIMM_PREFIX = 'timm_model.'
# parts that a ViT may have, as regular expressions
LAYER_SCALE = r'layers\.\d+\.(attn\.gamma1|ffn\.gamma2)\.weight'
REGISTERS = r'register_tokens$'
QK_NORM = r'layers\.\d+\.attn\.[qk]_norm\.'
GATED = r'layers\.\d+\.ffn\.w(12|3)\.'
PRE_NORM = r'pre_norm\.'


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family of backbones names its tensors.

    Args:
        name: What users read.
        class_name: Part of the names of its classes in the OpenMMLab libraries.
        mark: Regular expression for a name that only this family has.
        stem: Name prefixes of what is before the first block.
        block: Name of a block, with its ``{stage}`` and ``{block}``.
        first_stage: Number of the first stage.
        before_stage: Name of the layer before a later stage, with that ``{stage}`` or the one ``{before}`` it.
        stem_weight: Name of the first convolution's weight.
        stage_weight: Name of a weight with as many rows as its ``{stage}`` has channels; '' if these double per stage.
        is_vit: Whether it is one stage of transformer blocks.
        has_patches: Whether the first convolution cuts the image into patches.
        needed: Name -> number of dimensions of tensors that cannot be missing.
        sizes: Pattern of names -> number of dimensions of tensors that tell sizes.
        known: Regular expression for all tensors with a canonical name; others no target could take.
    """

    name: str
    class_name: str
    mark: str
    stem: tuple[str, ...]
    block: str
    first_stage: int = 0
    before_stage: str = ''
    stem_weight: str = 'patch_embed.projection.weight'
    stage_weight: str = ''
    is_vit: bool = False
    has_patches: bool = False
    needed: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    known: str = ''

    def blocks(self, names: Iterable[str]) -> dict[int, set[int]]:
        """Number of each stage, in order -> numbers of its blocks, as found in canonical names."""
        pattern = re.escape(self.block)
        for part in ('stage', 'block'):  # a number of more digits is damage
            pattern = pattern.replace(rf'\{{{part}\}}', rf'(?P<{part}>\d{{1,4}})')
        found = defaultdict(set)
        for match in (re.match(rf'{pattern}\.', name) for name in names):
            if match:
                found[int(match.groupdict().get('stage', 0))].add(int(match['block']))
        return dict(sorted(found.items()))


_VIT = Family(
    name='vit',
    class_name='ViT',
    mark=r'layers\.0\.attn\.qkv\.',
    stem=('cls_token', 'register_tokens', 'pos_embed', 'patch_embed', 'pre_norm'),
    block='layers.{block}',
    is_vit=True,
    has_patches=True,
    needed={'pos_embed': 3},
    sizes={'pos_embed$': 3, r'.*relative_position_bias_table$': 2},
    known=(
        r'(cls_token|pos_embed|register_tokens)$|patch_embed\.(projection|norm)\.|pre_norm\.|ln[12]\.|cls_token_mlp\.'
        r'|layers\.\d+\.(ln[12]|attn\.(qkv|proj|gamma1|[qk]_norm)|ffn\.(layers\.0\.0|layers\.1|w12|w3|gamma2))\.'
    ),
)
_BEIT = replace(
    _VIT,
    name='beit',
    class_name='BEiT',
    mark=r'rel_pos_bias\.|layers\.\d+\.attn\.(q_bias|relative_position)',
    needed={},
    known=(
        r'(cls_token|pos_embed)$|patch_embed\.(projection|norm)\.|rel_pos_bias\.|ln[12]\.'
        r'|layers\.\d+\.(ln[12]\.|attn\.(qkv|proj)\.|attn\.[qv]_bias$|attn\.relative_position_(bias_table|index)$'
        r'|gamma_[12]$|ffn\.(layers\.0\.0|layers\.1)\.)'
    ),
)
_SWIN = Family(
    name='swin',
    class_name='Swin',
    mark=r'stages\.0\.blocks\.0\.attn\.w_msa\.',
    stem=('patch_embed', 'absolute_pos_embed', 'drop_after_pos'),
    block='stages.{stage}.blocks.{block}',
    before_stage='stages.{before}.downsample',
    has_patches=True,
    sizes={'absolute_pos_embed$': 3, r'.*relative_position_bias_table$': 2},
)
_CONVNEXT = Family(
    name='convnext',
    class_name='ConvNeXt',
    mark=r'stages\.0\.0\.depthwise_conv\.',
    stem=('downsample_layers.0',),
    block='stages.{stage}.{block}',
    before_stage='downsample_layers.{stage}',
    stem_weight='downsample_layers.0.0.weight',
    stage_weight='stages.{stage}.0.depthwise_conv.weight',
    sizes={r'stages\.\d+\.0\.depthwise_conv\.weight$': 4},
)
_RESNET = Family(
    name='resnet',
    class_name='ResNet',
    mark=r'layer1\.0\.',
    stem=('conv1', 'bn1', 'stem'),
    block='layer{stage}.{block}',
    first_stage=1,
    stem_weight='conv1.weight',
    sizes={r'layer1\.0\.conv1\.weight$': 4},
)
# a model of timm under its own names, of any architecture: only timm knows its layers and sizes
_TIMM = Family(
    name='timm',
    class_name='Timm',
    mark=re.escape(TIMM_PREFIX),
    stem=(),
    block=f'{TIMM_PREFIX}-',
    known=re.escape(TIMM_PREFIX),
)
#: name -> family; a BEiT has the marks of a ViT as well, so it comes first
FAMILIES = {family.name: family for family in (_BEIT, _VIT, _SWIN, _CONVNEXT, _RESNET, _TIMM)}


def family_of(names: Iterable[str], origin: str) -> Family:
    """Family of a backbone by its canonical names.

    Args:
        names: All of them.
        origin: The file, for the message.

    Raises:
        CheckpointError: If the names match none.
    """
    names = list(names)
    for family in FAMILIES.values():
        if any(re.match(family.mark, name) for name in names):
            return family
    raise CheckpointError(f'{origin}: unknown kind of backbone; its tensors are {names[0]} ...')
