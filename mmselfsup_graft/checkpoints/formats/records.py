"""The known checkpoint formats as data: marks, encoders, names, computed values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmselfsup_graft.checkpoints.families import MASK_TOKENS

from . import schemes
from .schemes import Scheme


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
        scheme: How the encoder's tensors are named.
        not_encoder: Regular expression for names after the prefix that are not part of the encoder.
        branches: Name -> encoder in the file; the first is taken unless another is asked for.
        also_marked: Marks besides those of the scheme.
        projector: Names of the first linear layer of the projector and of the batch norm after it, where the format
            has one; ``{}`` is the encoder's prefix without ``backbone.``.
        also: Other methods whose files have this format, accepted as its name.
        normalization: How images were normalized; None if the format alone does not define it.
        refusal: Why such a file cannot be read, if it cannot.
        bare: Whether such a file holds a backbone and nothing else.
        heads: Width -> attention heads, if a head does not have 64 channels.
    """

    name: str
    scheme: Scheme
    not_encoder: str
    branches: Mapping[str, Branch] = field(default_factory=lambda: _one(''))
    also_marked: tuple[str, ...] = ()
    projector: tuple[str, str] | None = None
    also: tuple[str, ...] = ()
    normalization: Normalization | None = field(default_factory=Normalization)
    refusal: str = ''
    bare: bool = False
    heads: Mapping[int, int] = field(default_factory=dict)

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that must all be found in such a file."""
        return (*self.scheme.marks, *self.also_marked)


def _one(prefix: str) -> dict[str, Branch]:
    return {'base': Branch(prefix)}


_CONV_STEM = "a ViT with MoCo v3's convolutional stem, which no library here has"
_MASK = '|'.join((*MASK_TOKENS, 'masked_embed'))
_MOCOV3 = {'base': Branch('base_encoder.'), 'momentum': Branch('momentum_encoder.')}
_SELF_DISTILLED = {'teacher': Branch('backbone.', 'teacher'), 'student': Branch('backbone.', 'student')}
# ours; then mmpretrain's MoCo v3 and MoCo, whose momentum encoder is backbone and neck in a sequence
_FOLLOWERS = ('momentum_encoder.module.0.', 'encoder_k.module.0.', 'encoder_k.0.')
_OPENMMLAB = {'base': Branch('backbone.'), 'momentum': Branch('momentum_encoder.backbone.', others=_FOLLOWERS)}
_HF_OTHERS = r'pooler\.|classifier\.|decoder\.|embeddings\.mask_token'
_VIT_HEAD, _RESNET_FC, _NECK = ('{}head.0', '{}head.1'), ('{}fc.0', '{}fc.1'), ('{}neck.fc0', '{}neck.bn0')

# order matters: the first format whose marks are all found is taken
FORMATS: tuple[Format, ...] = (
    Format(
        name='moco',
        scheme=schemes.RESNET,
        branches={'base': Branch('encoder_q.'), 'momentum': Branch('encoder_k.')},
        not_encoder=r'fc\.',
    ),
    Format(
        name='mocov3',
        scheme=schemes.TIMM_VIT,
        branches=_MOCOV3,
        not_encoder=r'head\.',
        projector=_VIT_HEAD,
        also=('layer_grafted',),
        heads={384: 12},
    ),
    Format(
        name='mocov3-conv-stem',
        scheme=schemes.CONV_STEM_VIT,
        branches=_MOCOV3,
        not_encoder=r'head\.',
        also=('mocov3', 'layer_grafted'),
        refusal=_CONV_STEM,
    ),
    Format(
        name='mocov3-resnet',
        scheme=schemes.RESNET,
        branches=_MOCOV3,
        not_encoder=r'fc\.',
        projector=_RESNET_FC,
        also=('mocov3',),
    ),
    Format(
        name='ibot', scheme=schemes.TIMM_VIT, branches=_SELF_DISTILLED, not_encoder=rf'head\.|{_MASK}', also=('dino',)
    ),
    Format(
        name='dino-resnet', scheme=schemes.RESNET, branches=_SELF_DISTILLED, not_encoder=r'head\.|fc\.', also=('dino',)
    ),
    Format(
        name='ibot-swin',
        scheme=schemes.SWIN,
        branches=_SELF_DISTILLED,
        not_encoder=rf'head\.|{_MASK}|.*attn_mask$',
        also=('ibot',),
    ),
    Format(
        name='mmseg-vit',
        scheme=schemes.MMSEG_VIT,
        branches={'base': Branch('backbone.', others=('',))},
        not_encoder=r'(decode|auxiliary)_head\.',
        bare=True,
    ),
    Format(
        name='openmmlab',
        scheme=schemes.CANONICAL,
        branches=_OPENMMLAB,
        not_encoder=r'$^',
        projector=_NECK,
        also=('mmpretrain', 'mmselfsup', 'a2mim', 'simmim', 'mae', 'moco', 'mocov3', 'swav', 'layer_grafted', 'tec'),
        normalization=None,
    ),
    Format(name='simmim', scheme=schemes.TIMM_VIT, branches=_one('encoder.'), not_encoder=rf'head\.|{_MASK}'),
    Format(
        name='simmim-swin',
        scheme=schemes.SWIN,
        branches=_one('encoder.'),
        not_encoder=rf'head\.|{_MASK}|.*attn_mask$',
        also=('simmim',),
    ),
    Format(
        name='swav',
        scheme=schemes.RESNET,
        also_marked=(r'projection_head\.|prototypes\.',),
        not_encoder=r'projection_head\.|prototypes\.',
        normalization=Normalization(std=(0.228, 0.224, 0.225)),
    ),
    Format(
        name='tec',
        scheme=schemes.TIMM_VIT,
        also_marked=(r'cls_token_mlp\.',),
        not_encoder=rf'decoder_|encoder_adaptor\.|forward_(fea|att)_decoder\.|head\.|{_MASK}',
    ),
    Format(
        name='mae', scheme=schemes.TIMM_VIT, also_marked=(r'decoder_blocks\.',), not_encoder=rf'decoder_|head\.|{_MASK}'
    ),
    Format(
        name='timm',
        scheme=schemes.TIMM_VIT,
        not_encoder=rf'decoder_|head(_dist)?\.|pre_logits\.|fc\.|{_MASK}',
        also=('mae', 'mocov3', 'layer_grafted', 'tec', 'ibot', 'dino', 'deit'),
        normalization=None,
        bare=True,
    ),
    Format(name='conv-stem', scheme=schemes.CONV_STEM_VIT, not_encoder=r'head\.', refusal=_CONV_STEM, bare=True),
    Format(
        name='huggingface',
        scheme=schemes.HUGGINGFACE,
        branches={'base': Branch('vit.', others=('dinov2.', 'dinov2_with_registers.', ''))},
        not_encoder=_HF_OTHERS,
        normalization=None,
        bare=True,
    ),
    Format(name='swin', scheme=schemes.SWIN, not_encoder=r'head\.|.*attn_mask$', bare=True),
    Format(name='convnext', scheme=schemes.CONVNEXT, not_encoder=r'head\.', bare=True),
    Format(name='timm-convnext', scheme=schemes.TIMM_CONVNEXT, not_encoder=r'head\.(?!norm)', bare=True),
    Format(
        name='torchvision-convnext', scheme=schemes.TORCHVISION_CONVNEXT, not_encoder=r'classifier\.(?!0)', bare=True
    ),
    Format(
        name='mmpretrain',
        scheme=schemes.CANONICAL,
        not_encoder=r'(head|neck|fc)\.',
        also=('mmselfsup', 'torchvision', 'timm', 'a2mim', 'simmim'),
        normalization=None,
        bare=True,
    ),
)


def format_names() -> list[str]:
    """Names accepted as ``format`` besides ``auto``: of formats, and of methods whose files have one of them."""
    return sorted({name for each in FORMATS for name in (each.name, *each.also)})
