"""Checkpoint formats: where the encoder lies in a file, what it is called there, what else the file holds.

Each format is one small record. :func:`read_encoder` finds the format of a file, takes the encoder out and gives it
canonical (mmpretrain) names; every source key ends as kept or dropped, exactly once.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import CheckpointError, FormatMismatchError
from .computed import (
    IDENTITY,
    Entries,
    Entry,
    Step,
    join_qkv,
    name_layer_scale,
    split_qv_bias,
)
from .computed_stages import number_final_norm, scale_to_vector, swin_merge_to_mm
from .reading import read_checkpoint
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
from .values import check_weights

StateDict = dict[str, torch.Tensor]

# where state dicts are found in a file, first match wins; a file without any of these is itself the state dict
_WRAPPERS = ('state_dict', 'model', 'module')
_PARALLEL = 'module.'  # what torch's data parallel wrappers put before every name
_KEEP_NAMES = RenameTable(())


@dataclass(frozen=True)
class Branch:
    """One of the encoders in a file.

    Args:
        prefix: Text before the names of its tensors; anchored at the start, with or without ``module.`` before it.
        wrapper: Key at the top of the file that holds its tensors, where each encoder has one of its own.
        others: Other prefixes that stand for the same.
    """

    prefix: str
    wrapper: str | None = None
    others: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """All prefixes, each with and without ``module.`` before it."""
        return tuple(before + prefix for prefix in (self.prefix, *self.others) for before in (_PARALLEL, ''))


@dataclass(frozen=True)
class Normalisation:
    """What the images were normalised with: mean and standard deviation of R, G and B, full range 0..1."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Format:
    """How one family of checkpoints names its encoder.

    Args:
        name: What users call it.
        branches: Name -> encoder in the file; the first is taken unless another is asked for.
        marks: Regular expressions (searched at the start of a name, prefix removed); all must be found.
        not_encoder: Regular expression for names behind the prefix that are no part of the encoder.
        table: Names there -> canonical names.
        steps: What is computed after renaming.
        projector: Names of the first linear layer of the projector and of the batch norm after it, where the format
            has one; ``{}`` stands for the encoder's prefix without ``backbone.``.
        also: Methods whose files look like this as well, for users who ask by method.
        normalisation: How images were normalised; None where the format alone does not tell.
        refusal: Why such a file cannot be read, if it cannot.
        bare: A backbone alone: nothing is left to extract from such a file.
    """

    name: str
    branches: Mapping[str, Branch]
    marks: tuple[str, ...]
    not_encoder: str
    table: RenameTable
    steps: tuple[Step, ...] = ()
    projector: tuple[str, str] | None = None
    also: tuple[str, ...] = ()
    normalisation: Normalisation | None = field(default_factory=Normalisation)
    refusal: str = ''
    bare: bool = False


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
# ours; then mmpretrain's MoCo v3 and MoCo, whose follower is backbone and neck in a row
_FOLLOWERS = ('momentum_encoder.module.0.', 'encoder_k.module.0.', 'encoder_k.0.')
_OPENMMLAB = {'base': Branch('backbone.'), 'momentum': Branch('momentum_encoder.backbone.', others=_FOLLOWERS)}
_HF_MARK = r'encoder\.layer\.0\.attention\.attention\.query\.weight'
_HF_OTHERS = r'pooler\.|classifier\.|decoder\.|embeddings\.mask_token'
_VIT_HEAD, _RESNET_FC, _NECK = ('{}head.0', '{}head.1'), ('{}fc.0', '{}fc.1'), ('{}neck.fc0', '{}neck.bn0')

# order matters: the first format whose marks are all found is taken
FORMATS: tuple[Format, ...] = (
    Format('moco', {'base': Branch('encoder_q.'), 'momentum': Branch('encoder_k.')}, (_RESNET,), r'fc\.', _KEEP_NAMES),
    Format('mocov3', _MOCOV3, _TIMM_MARKS, r'head\.', VIT_TIMM, projector=_VIT_HEAD, also=('layer_grafted',)),
    Format(
        'mocov3-conv-stem',
        _MOCOV3,
        _CONV_STEM_MARKS,
        r'head\.',
        VIT_TIMM,
        also=('mocov3', 'layer_grafted'),
        refusal=_CONV_STEM,
    ),
    Format('mocov3-resnet', _MOCOV3, (_RESNET,), r'fc\.', _KEEP_NAMES, projector=_RESNET_FC, also=('mocov3',)),
    Format('ibot', _SELF_DISTILLED, _TIMM_MARKS, rf'head\.|{_MASK}', VIT_TIMM, also=('dino',)),
    Format('dino-resnet', _SELF_DISTILLED, (_RESNET,), r'head\.|fc\.', _KEEP_NAMES, also=('dino',)),
    Format(
        'ibot-swin',
        _SELF_DISTILLED,
        (_SWIN_MARK,),
        rf'head\.|{_MASK}|.*attn_mask$',
        SWIN_OFFICIAL,
        _SWIN_STEPS,
        also=('ibot',),
    ),
    Format(
        'mmseg-vit',
        {'base': Branch('backbone.', others=('',))},
        (r'layers\.0\.attn\.attn\.in_proj_weight',),
        r'(decode|auxiliary)_head\.',
        VIT_MMSEG,
        bare=True,
    ),
    Format(
        'openmmlab',
        _OPENMMLAB,
        (_CANONICAL,),
        r'$^',
        _KEEP_NAMES,
        (name_layer_scale, split_qv_bias),
        projector=_NECK,
        also=('mmpretrain', 'mmselfsup', 'a2mim', 'simmim', 'mae', 'moco', 'mocov3', 'swav', 'layer_grafted', 'tec'),
        normalisation=None,
    ),
    Format('simmim', _one('encoder.'), _TIMM_MARKS, rf'head\.|{_MASK}', VIT_TIMM),
    Format(
        'simmim-swin',
        _one('encoder.'),
        (_SWIN_MARK,),
        rf'head\.|{_MASK}|.*attn_mask$',
        SWIN_OFFICIAL,
        _SWIN_STEPS,
        also=('simmim',),
    ),
    Format(
        'swav',
        _one(''),
        (_RESNET, r'projection_head\.|prototypes\.'),
        r'projection_head\.|prototypes\.',
        _KEEP_NAMES,
        normalisation=Normalisation(std=(0.228, 0.224, 0.225)),
    ),
    Format(
        'tec',
        _one(''),
        (*_TIMM_MARKS, r'cls_token_mlp\.'),
        rf'decoder_|encoder_adaptor\.|forward_(fea|att)_decoder\.|head\.|{_MASK}',
        VIT_TIMM,
    ),
    Format('mae', _one(''), (*_TIMM_MARKS, r'decoder_blocks\.'), rf'decoder_|head\.|{_MASK}', VIT_TIMM),
    Format(
        'timm',
        _one(''),
        _TIMM_MARKS,
        rf'decoder_|head\.|fc\.|{_MASK}',
        VIT_TIMM,
        (name_layer_scale,),
        also=('mae', 'mocov3', 'layer_grafted', 'tec', 'ibot', 'dino', 'deit'),
        normalisation=None,
        bare=True,
    ),
    Format('conv-stem', _one(''), _CONV_STEM_MARKS, r'head\.', VIT_TIMM, refusal=_CONV_STEM, bare=True),
    Format(
        'huggingface',
        {'base': Branch('vit.', others=('',))},
        (_HF_MARK,),
        _HF_OTHERS,
        VIT_HUGGINGFACE,
        (join_qkv,),
        normalisation=None,
        bare=True,
    ),
    Format(
        'swin',
        _one(''),
        (_SWIN_MARK,),
        r'head\.|.*attn_mask$',
        SWIN_OFFICIAL,
        _SWIN_STEPS,
        bare=True,
    ),
    Format(
        'convnext',
        _one(''),
        (r'stages\.0\.0\.dwconv\.',),
        r'head\.',
        CONVNEXT_OFFICIAL,
        (number_final_norm,),
        bare=True,
    ),
    Format(
        'timm-convnext', _one(''), (r'stages\.0\.blocks\.0\.conv_dw\.',), r'head\.(?!norm)', CONVNEXT_TIMM, bare=True
    ),
    Format(
        'torchvision-convnext',
        _one(''),
        (r'features\.1\.0\.block\.0\.weight',),
        r'classifier\.(?!0)',
        CONVNEXT_TORCHVISION,
        (scale_to_vector,),
        bare=True,
    ),
    Format(
        'mmpretrain',
        _one(''),
        (_CANONICAL,),
        r'(head|neck|fc)\.',
        _KEEP_NAMES,
        (name_layer_scale, split_qv_bias),
        also=('mmselfsup', 'torchvision', 'timm', 'a2mim', 'simmim'),
        normalisation=None,
        bare=True,
    ),
)


@dataclass(frozen=True)
class Located:
    """Where an encoder lies in a file.

    Args:
        format: The format that was found.
        branch: Which of its encoders.
        state: The tensors of the file among which it lies.
        prefix: What stands before the encoder's names.
        origin: The file, for messages.
    """

    format: Format
    branch: str
    state: StateDict
    prefix: str
    origin: str


@dataclass(frozen=True)
class Encoder:
    """An encoder taken out of a checkpoint.

    Args:
        entries: Its tensors under canonical names, with where they came from, in the order of the file.
        format: Name of the format it was found in.
        branch: Which encoder of the file.
        dropped: Names (as in the file) of tensors that are no part of the encoder.
        origin: The file, for messages.
        normalisation: How images were normalised, if that is known.
        head: Names (as in the file) of tensors that were kept on request though they are no part of the encoder.
    """

    entries: Entries
    format: str
    branch: str
    dropped: tuple[str, ...]
    origin: str
    normalisation: Normalisation | None = None
    head: frozenset[str] = frozenset()

    @property
    def state(self) -> StateDict:
        """Canonical name -> tensor."""
        return {entry.name: entry.tensor for entry in self.entries}


def unwrap_state_dict(content: Mapping[str, Any], wrapper: str | None = None) -> StateDict:
    """Take the tensors out of a checkpoint.

    Args:
        content: What :func:`read_checkpoint` returned.
        wrapper: Key that holds them; None looks for ``state_dict``, ``model`` and ``module``, else takes the top.
    """
    key = _holder(content, wrapper)
    if key is not None:
        content = content[key]
    elif wrapper:
        content = {}
    return {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, torch.Tensor)}


def _holder(content: Mapping[str, Any], wrapper: str | None) -> str | None:
    """The key at the top of a checkpoint that holds its tensors; None if they lie at the top themselves."""
    keys = (wrapper,) if wrapper else _WRAPPERS
    return next((key for key in keys if isinstance(content.get(key), Mapping)), None)


def beside(content: Mapping[str, Any], wrapper: str | None = None) -> list[str]:
    """What a checkpoint holds at its top beside the tensors that :func:`unwrap_state_dict` takes: optimiser, epoch."""
    key = _holder(content, wrapper)
    if key is not None:
        return [str(name) for name in content if name != key]
    return [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]


def format_names() -> list[str]:
    """Names accepted as ``format`` besides ``auto``: of formats, and of methods whose files have one of them."""
    return sorted({name for each in FORMATS for name in (each.name, *each.also)})


def _actual_prefix(branch: Branch, names: Iterable[str], origin: str) -> str:
    """The prefix as it stands in a file: behind ``module.``, or behind ``objectives.NAME.`` in a multi-task model.

    Raises:
        CheckpointError: If several objectives have it.
    """
    names = list(names)
    for candidate in branch.prefixes:
        if any(name.startswith(candidate) for name in names):
            return candidate
    return in_objective(branch.prefix, names, origin)


def in_objective(prefix: str, names: Iterable[str], origin: str) -> str:
    """``prefix``, or where no name begins with it ``objectives.NAME.prefix``: parts of a multi-task model lie there.

    Raises:
        CheckpointError: If several objectives have it.
    """
    names = list(names)
    if not prefix or any(name.startswith(prefix) for name in names):
        return prefix
    matches = (re.match(rf'objectives\.[^.]+\.{re.escape(prefix)}', name) for name in names)
    found = sorted({match[0] for match in matches if match})
    if len(found) > 1:
        raise CheckpointError(
            f'{origin} has several objectives with such a part ({", ".join(found)}); keep one of them'
        )
    return found[0] if found else prefix


def _fits(candidate: Format, branch: Branch, state: StateDict) -> bool:
    for prefix in branch.prefixes:
        inside = [name[len(prefix) :] for name in state if name.startswith(prefix)]
        if inside and all(any(re.match(mark, name) for name in inside) for mark in candidate.marks):
            return True
    return False


def detect_format(content: Mapping[str, Any]) -> Format | None:
    """First format that fits checkpoint content; None if none does."""
    for candidate in FORMATS:
        branches = candidate.branches.values()
        if any(_fits(candidate, branch, unwrap_state_dict(content, branch.wrapper)) for branch in branches):
            return candidate
    return None


def _tensor_names(content: Mapping[str, Any]) -> list[str]:
    """Names of the tensors in a file, one level deep, to show what it holds."""
    found = list(unwrap_state_dict(content))
    return found or [name for key in content for name in unwrap_state_dict({'state_dict': content[key]})]


def locate(content: Mapping[str, Any], origin: str, wanted: str = 'auto', branch: str | None = None) -> Located:
    """Find the encoder in checkpoint content.

    Args:
        content: What :func:`read_checkpoint` returned.
        origin: File name for messages.
        wanted: Name of a format or method, or ``auto`` to detect it.
        branch: Name of one of the encoders in the file; None takes the format's first.

    Raises:
        FormatMismatchError: If it is another format than the one that was asked for.
        CheckpointError: If the format is unknown, cannot be read, or has no such branch.
    """
    known = format_names()
    if wanted != 'auto' and wanted not in known:
        raise CheckpointError(f'unknown checkpoint format {wanted!r}; known: auto, {", ".join(known)}')
    found = detect_format(content)
    if found is None:
        names = _tensor_names(content)
        sample = ', '.join(names[:3]) or 'no tensors at all'
        expected = (
            f'a checkpoint of format {wanted}' if wanted != 'auto' else f'one of the known formats ({", ".join(known)})'
        )
        raise CheckpointError(f'{origin} is not {expected}: its tensors are named {sample} ...')
    if wanted not in ('auto', found.name, *found.also):
        raise FormatMismatchError(
            f'{origin} is not a checkpoint of format {wanted}: its tensors are named as in format {found.name}; '
            f'say {found.name} or auto'
        )
    if found.refusal:
        raise CheckpointError(f'{origin} (format {found.name}) is {found.refusal}')
    chosen = branch or next(iter(found.branches))
    if chosen not in found.branches:
        options = ' or '.join(f'branch="{name}"' for name in found.branches)
        raise CheckpointError(f'{origin} (format {found.name}) has no {chosen} encoder; use {options}')
    where = found.branches[chosen]
    state = unwrap_state_dict(content, where.wrapper)
    if found.normalisation is None and wanted in found.also:
        found = replace(found, normalisation=Normalisation())  # the method that was named tells
    return Located(found, chosen, state, _actual_prefix(where, state, origin), origin)


def take_encoder(located: Located, keep_head: bool = False) -> Encoder:
    """Take a located encoder out and give it canonical names.

    Args:
        located: Where it lies.
        keep_head: Keep everything behind the prefix, under its own name where it is no part of the encoder.

    Raises:
        CheckpointError: If there is nothing, its tensors are not finite numbers of floating point, or a value that must
            be computed cannot be.
    """
    found, prefix = located.format, located.prefix
    entries: Entries = []
    head = set()
    for name, tensor in located.state.items():
        inner = name[len(prefix) :]
        if not name.startswith(prefix):
            continue
        if not re.match(found.not_encoder, inner):
            entries.append(Entry(found.table.to_canonical(inner), tensor, ((name, IDENTITY),)))
        elif keep_head:
            entries.append(Entry(inner, tensor, ((name, IDENTITY),)))
            head.add(name)
    if len(entries) == len(head):
        raise CheckpointError(f'{located.origin} (format {found.name}) holds no tensors of a {located.branch} encoder')
    check_weights(located.origin, {source: each.tensor for each in entries for source, _ in each.origins})
    for step in found.steps:
        entries = step(entries)
    used = {source for entry in entries for source, _ in entry.origins}
    dropped = tuple(name for name in located.state if name not in used)
    return Encoder(entries, found.name, located.branch, dropped, located.origin, found.normalisation, frozenset(head))


def to_encoder(content: Mapping[str, Any], origin: str, wanted: str = 'auto', branch: str | None = None) -> Encoder:
    """Take the encoder out of checkpoint content and give it canonical names; see :func:`locate`."""
    return take_encoder(locate(content, origin, wanted, branch))


def read_encoder(
    path: str | os.PathLike, wanted: str = 'auto', branch: str | None = None, unsafe_pickle: bool = False
) -> Encoder:
    """Read a checkpoint file and take its encoder out; see :func:`locate`."""
    return to_encoder(read_checkpoint(path, unsafe_pickle), str(path), wanted, branch)
