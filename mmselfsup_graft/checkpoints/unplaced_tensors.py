"""Tensors of an encoder that a model cannot take: whether they change its features, and which backbone can take them.

Used by every reader: grafts, scoring, fine-tuning, TEC's base model, the converters, detectors and segmentors.
"""

import re
from collections.abc import Collection, Iterable

from mmselfsup_graft.checkpoints.formats.rename import grouped_names

from .families import GATED, LAYER_SCALE, PRE_NORM, QK_NORM, REGISTERS

# Not part of the features: heads, decoders, projectors, queues, mask tokens, counters, values that a model computes.
# Whole names: a longer one (head_norm, overhead) may be part of an encoder
_ALWAYS_ALLOWED = re.compile(
    r'((\w+_)?decoder(_\w+)?|(\w+_)?head|head_dist|projector|projection_head|predictor|prototypes\d*|classifier|fc|'
    r'queue\d*(_ptr)?|logit_scale|mask_token|masked_embed|mask_gamma)(\.|$)'
    r'|(.*\.)?(num_batches_tracked|relative_position_index|relative_coords_table|attn_mask)$'
)
# norms whose output is not the feature of a model without them, as its config states
_VIT_NORM = re.compile(r'ln1\.')  # after the last block
_STAGE_NORM = re.compile(r'norm\d+\.(weight|bias)$')  # of the outputs of stages
_STAGE = re.compile(r'stages\.\d+\.')

# canonical names -> what they are, and which backbone takes them
_REMEDIES = (
    (REGISTERS, 'register tokens', 'SelfSupViT with num_registers={count}'),
    (
        rf'{LAYER_SCALE}$|layers\.\d+\.gamma_[12]$',
        'layer scale',
        'layer_scale_init_value=1.0 of the backbone',
    ),
    (QK_NORM, 'norms of queries and keys', 'SelfSupViT with qk_norm=True'),
    (GATED, 'gated MLPs', "layer_cfgs=dict(ffn_type='swiglu_fused') of the backbone"),
    (PRE_NORM, 'a norm before the first block', 'pre_norm=True of the backbone'),
    (r'ln2\.', 'a norm of the mean of the patches', "out_type='avg_featmap' of the backbone"),
    (
        r'layers\.\d+\.attn\.(relative_position_bias_table|q_bias|v_bias)|rel_pos_bias\.',
        'relative positions',
        'the class SelfSupBEiT',
    ),
    (r'cls_token$', 'a class token', 'with_cls_token=True of the backbone'),
    (r'cls_token_mlp\.', "TEC's MLP after the class token", 'the class TECViT'),
    (r'absolute_pos_embed$', 'absolute positions', 'use_abs_pos_embed=True of the backbone'),
    (r'pos_embed$', 'absolute positions', 'a backbone with a position table'),
    (r'patch_embed\.norm\.', 'a norm of the patches', "patch_cfg=dict(norm_cfg=dict(type='LN')) of the backbone"),
    (r'layers?\d*\.\d+\.attn\.qkv\.bias|patch_embed\.projection\.bias', 'biases', 'the backbone with these biases'),
)


def changes_features(name: str, staged: bool) -> bool:
    """Whether an encoder without this tensor, under its canonical name, has other features.

    Args:
        name: Canonical name.
        staged: Whether the encoder is one of several stages with norms of their own (Swin, ConvNeXt); see
            :func:`is_staged`.
    """
    return not (_ALWAYS_ALLOWED.match(name) or (_STAGE_NORM if staged else _VIT_NORM).match(name))


def is_staged(names: Iterable[str]) -> bool:
    """Whether canonical names are those of an encoder of stages, as Swin and ConvNeXt."""
    return any(_STAGE.match(name) for name in names)


def unplaced(given: Iterable[str], wanted: Collection[str]) -> list[str]:
    """Canonical names of tensors that the model cannot take although they change the encoder's features."""
    given = list(given)
    staged = is_staged(given)
    return [name for name in given if name not in wanted and changes_features(name, staged)]


def has_remedy(name: str) -> bool:
    """Whether there is a backbone or an option that takes this tensor."""
    return any(re.match(pattern, name) for pattern, _, _ in _REMEDIES)


def explain_unplaced(names: Collection[str], registers: int = 0) -> str:
    """One line: what the tensors are and which backbone can take them.

    Args:
        names: Result of :func:`unplaced`.
        registers: Number of register tokens, for the advice.
    """
    parts, rest = [], list(names)
    for pattern, what, remedy in _REMEDIES:
        found = [name for name in rest if re.match(pattern, name)]
        if found:
            rest = [name for name in rest if name not in found]
            more = f', {len(found)} tensors' if len(found) > 1 else ''
            parts.append(f'{what} ({found[0]}{more}): use {remedy.format(count=registers or "N")}')
    if rest:
        parts.append(
            f'{grouped_names(rest, depth=8, most=3)}: no backbone of this toolbox takes it; check the kind of encoder'
        )
    return '; '.join(parts)
