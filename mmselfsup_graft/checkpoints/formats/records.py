"""The known checkpoint formats as data: marks, encoders, names, computed values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .computed import Step, join_qkv, name_layer_scale, split_qv_bias
from .computed_stages import number_final_norm, scale_to_vector, swin_merge_to_mm
from .rename import (
    CONVNEXT_OFFICIAL,
    CONVNEXT_TIMM,
    CONVNEXT_TORCHVISION,
    SWIN_OFFICIAL,
    VIT_HUGGINGFACE,
    VIT_MMSEG,
    VIT_TIMM,
    RenameTable,
)

_KEEP_NAMES = RenameTable(())


@dataclass(frozen=True)
class Branch:
    """One of the encoders in a file.

    Args:
        prefix: Text before the names of its tensors; wrappers may add components before it, see :mod:`.layouts`.
        wrapper: Key in the file that holds its tensors, if each encoder has its own key.
        others: Other prefixes of the same encoder.
    """

    prefix: str
    wrapper: str | None = None
    others: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """All prefixes of this encoder."""
        return (self.prefix, *self.others)


@dataclass(frozen=True)
class Normalization:
    """What the images were normalized with: mean and standard deviation per channel (R, G, B), full range 0..1."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one family of checkpoints names its encoder.

    Args:
        name: What users call it.
        branches: Name -> encoder in the file; the first is taken unless another is asked for.
        marks: Regular expressions (searched at the start of a name, prefix removed); all must be found.
        not_encoder: Regular expression for names after the prefix that are not part of the encoder.
        table: Names there -> canonical names.
        steps: Computations after renaming.
        projector: Names of the first linear layer of the projector and of the batch norm after it, where the format
            has one; ``{}`` is the encoder's prefix without ``backbone.``.
        also: Other methods whose files have this format, accepted as its name.
        normalization: How images were normalized; None if the format alone does not define it.
        refusal: Why such a file cannot be read, if it cannot.
        bare: Whether such a file holds a backbone and nothing else.
        heads: Width -> attention heads, if a head does not have 64 channels.
    """

    name: str
    branches: Mapping[str, Branch]
    marks: tuple[str, ...]
    not_encoder: str
    table: RenameTable
    steps: tuple[Step, ...] = ()
    projector: tuple[str, str] | None = None
    also: tuple[str, ...] = ()
    normalization: Normalization | None = field(default_factory=Normalization)
    refusal: str = ''
    bare: bool = False
    heads: Mapping[int, int] = field(default_factory=dict)


def _one(prefix: str) -> dict[str, Branch]:
    return {'base': Branch(prefix)}


_TIMM_MARKS = (r'blocks\.0\.attn\.qkv\.weight', r'patch_embed\.proj\.weight')
_SWIN_MARK = r'layers\.0\.blocks\.0\.attn\.relative_position_bias_table'
_SWIN_STEPS: tuple[Step, ...] = (swin_merge_to_mm, number_final_norm)
_RESNET = r'layer1\.0\.'
_CANONICAL = r'layers\.0\.attn\.qkv\.|layer1\.0\.|stages\.0\.0\.depthwise_conv\.|stages\.0\.blocks\.0\.attn\.w_msa\.'
_CONV_STEM_MARKS = (r'blocks\.0\.attn\.qkv\.weight', r'patch_embed\.proj\.0\.weight')
_CONV_STEM = "a ViT with MoCo v3's convolutional stem, which no library here has"
_MASK = r'mask_token|masked_embed|mask_gamma'
_MOCOV3 = {'base': Branch('base_encoder.'), 'momentum': Branch('momentum_encoder.')}
_SELF_DISTILLED = {'teacher': Branch('backbone.', 'teacher'), 'student': Branch('backbone.', 'student')}
# ours; then mmpretrain's MoCo v3 and MoCo, whose momentum encoder is backbone and neck in a sequence
_FOLLOWERS = ('momentum_encoder.module.0.', 'encoder_k.module.0.', 'encoder_k.0.')
_OPENMMLAB = {'base': Branch('backbone.'), 'momentum': Branch('momentum_encoder.backbone.', others=_FOLLOWERS)}
_HF_MARK = r'encoder\.layer\.0\.attention\.attention\.query\.weight'
_HF_OTHERS = r'pooler\.|classifier\.|decoder\.|embeddings\.mask_token'
_PLAIN = (name_layer_scale,)
_VIT_HEAD, _RESNET_FC, _NECK = ('{}head.0', '{}head.1'), ('{}fc.0', '{}fc.1'), ('{}neck.fc0', '{}neck.bn0')

# order matters: the first format whose marks are all found is taken
FORMATS: tuple[Format, ...] = (
    Format(
        name='moco',
        branches={'base': Branch('encoder_q.'), 'momentum': Branch('encoder_k.')},
        marks=(_RESNET,),
        not_encoder=r'fc\.',
        table=_KEEP_NAMES,
    ),
    Format(
        name='mocov3',
        branches=_MOCOV3,
        marks=_TIMM_MARKS,
        not_encoder=r'head\.',
        table=VIT_TIMM,
        steps=_PLAIN,
        projector=_VIT_HEAD,
        also=('layer_grafted',),
        heads={384: 12},
    ),
    Format(
        name='mocov3-conv-stem',
        branches=_MOCOV3,
        marks=_CONV_STEM_MARKS,
        not_encoder=r'head\.',
        table=VIT_TIMM,
        also=('mocov3', 'layer_grafted'),
        refusal=_CONV_STEM,
    ),
    Format(
        name='mocov3-resnet',
        branches=_MOCOV3,
        marks=(_RESNET,),
        not_encoder=r'fc\.',
        table=_KEEP_NAMES,
        projector=_RESNET_FC,
        also=('mocov3',),
    ),
    Format(
        name='ibot',
        branches=_SELF_DISTILLED,
        marks=_TIMM_MARKS,
        not_encoder=rf'head\.|{_MASK}',
        table=VIT_TIMM,
        steps=_PLAIN,
        also=('dino',),
    ),
    Format(
        name='dino-resnet',
        branches=_SELF_DISTILLED,
        marks=(_RESNET,),
        not_encoder=r'head\.|fc\.',
        table=_KEEP_NAMES,
        also=('dino',),
    ),
    Format(
        name='ibot-swin',
        branches=_SELF_DISTILLED,
        marks=(_SWIN_MARK,),
        not_encoder=rf'head\.|{_MASK}|.*attn_mask$',
        table=SWIN_OFFICIAL,
        steps=_SWIN_STEPS,
        also=('ibot',),
    ),
    Format(
        name='mmseg-vit',
        branches={'base': Branch('backbone.', others=('',))},
        marks=(r'layers\.0\.attn\.attn\.in_proj_weight',),
        not_encoder=r'(decode|auxiliary)_head\.',
        table=VIT_MMSEG,
        bare=True,
    ),
    Format(
        name='openmmlab',
        branches=_OPENMMLAB,
        marks=(_CANONICAL,),
        not_encoder=r'$^',
        table=_KEEP_NAMES,
        steps=(name_layer_scale, split_qv_bias),
        projector=_NECK,
        also=('mmpretrain', 'mmselfsup', 'a2mim', 'simmim', 'mae', 'moco', 'mocov3', 'swav', 'layer_grafted', 'tec'),
        normalization=None,
    ),
    Format(
        name='simmim',
        branches=_one('encoder.'),
        marks=_TIMM_MARKS,
        not_encoder=rf'head\.|{_MASK}',
        table=VIT_TIMM,
        steps=_PLAIN,
    ),
    Format(
        name='simmim-swin',
        branches=_one('encoder.'),
        marks=(_SWIN_MARK,),
        not_encoder=rf'head\.|{_MASK}|.*attn_mask$',
        table=SWIN_OFFICIAL,
        steps=_SWIN_STEPS,
        also=('simmim',),
    ),
    Format(
        name='swav',
        branches=_one(''),
        marks=(_RESNET, r'projection_head\.|prototypes\.'),
        not_encoder=r'projection_head\.|prototypes\.',
        table=_KEEP_NAMES,
        normalization=Normalization(std=(0.228, 0.224, 0.225)),
    ),
    Format(
        name='tec',
        branches=_one(''),
        marks=(*_TIMM_MARKS, r'cls_token_mlp\.'),
        not_encoder=rf'decoder_|encoder_adaptor\.|forward_(fea|att)_decoder\.|head\.|{_MASK}',
        table=VIT_TIMM,
        steps=_PLAIN,
    ),
    Format(
        name='mae',
        branches=_one(''),
        marks=(*_TIMM_MARKS, r'decoder_blocks\.'),
        not_encoder=rf'decoder_|head\.|{_MASK}',
        table=VIT_TIMM,
        steps=_PLAIN,
    ),
    Format(
        name='timm',
        branches=_one(''),
        marks=_TIMM_MARKS,
        not_encoder=rf'decoder_|head(_dist)?\.|pre_logits\.|fc\.|{_MASK}',
        table=VIT_TIMM,
        steps=_PLAIN,
        also=('mae', 'mocov3', 'layer_grafted', 'tec', 'ibot', 'dino', 'deit'),
        normalization=None,
        bare=True,
    ),
    Format(
        name='conv-stem',
        branches=_one(''),
        marks=_CONV_STEM_MARKS,
        not_encoder=r'head\.',
        table=VIT_TIMM,
        refusal=_CONV_STEM,
        bare=True,
    ),
    Format(
        name='huggingface',
        branches={'base': Branch('vit.', others=('dinov2.', 'dinov2_with_registers.', ''))},
        marks=(_HF_MARK,),
        not_encoder=_HF_OTHERS,
        table=VIT_HUGGINGFACE,
        steps=(join_qkv,),
        normalization=None,
        bare=True,
    ),
    Format(
        name='swin',
        branches=_one(''),
        marks=(_SWIN_MARK,),
        not_encoder=r'head\.|.*attn_mask$',
        table=SWIN_OFFICIAL,
        steps=_SWIN_STEPS,
        bare=True,
    ),
    Format(
        name='convnext',
        branches=_one(''),
        marks=(r'stages\.0\.0\.dwconv\.',),
        not_encoder=r'head\.',
        table=CONVNEXT_OFFICIAL,
        steps=(number_final_norm,),
        bare=True,
    ),
    Format(
        name='timm-convnext',
        branches=_one(''),
        marks=(r'stages\.0\.blocks\.0\.conv_dw\.',),
        not_encoder=r'head\.(?!norm)',
        table=CONVNEXT_TIMM,
        bare=True,
    ),
    Format(
        name='torchvision-convnext',
        branches=_one(''),
        marks=(r'features\.1\.0\.block\.0\.weight',),
        not_encoder=r'classifier\.(?!0)',
        table=CONVNEXT_TORCHVISION,
        steps=(scale_to_vector,),
        bare=True,
    ),
    Format(
        name='mmpretrain',
        branches=_one(''),
        marks=(_CANONICAL,),
        not_encoder=r'(head|neck|fc)\.',
        table=_KEEP_NAMES,
        steps=(name_layer_scale, split_qv_bias),
        also=('mmselfsup', 'torchvision', 'timm', 'a2mim', 'simmim'),
        normalization=None,
        bare=True,
    ),
)


def format_names() -> list[str]:
    """Names accepted as ``format`` besides ``auto``: of formats, and of methods whose files have one of them."""
    return sorted({name for each in FORMATS for name in (each.name, *each.also)})
