"""Targets of a conversion: the names that other libraries give to the same tensors.

The counterpart of :mod:`formats`: an encoder under canonical names becomes the state dict of a target.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mmselfsup_graft.checkpoints.families import (
    GATED,
    LAYER_SCALE,
    MASK_TOKENS,
    PRE_NORM,
    QK_NORM,
    REGISTERS,
    Family,
)
from mmselfsup_graft.checkpoints.formats import schemes
from mmselfsup_graft.checkpoints.formats.computed import (
    Entries,
    Step,
    expand_shared_table,
    fuse_qv_bias,
    has_shared_table,
    merge_class_token,
)
from mmselfsup_graft.checkpoints.formats.encoder import Encoder
from mmselfsup_graft.checkpoints.formats.schemes import Scheme
from mmselfsup_graft.checkpoints.unplaced_tensors import changes_features, explain_unplaced, is_staged
from mmselfsup_graft.errors import CheckpointError

_MASK = '|'.join(MASK_TOKENS)
_FINAL_NORM = r'ln[12]\.'
_INDEX = r'.*relative_position_index$'
_HF_FRESH = r'(\w+\.)?embeddings\.mask_token$'  # after the name of the encoder in a classifier
_NOT_IN_PLAIN_VIT = '|'.join((REGISTERS, QK_NORM, GATED, PRE_NORM))  # not in an ordinary ViT


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Names of one family of backbones in a target.

    Args:
        scheme: How the tensors are named there.
        steps: Computations besides those of the scheme.
        final_norm: Whether the target has the norm after a ViT's last block.
        lacks: Regular expression for canonical names that the target computes or does not use.
        refuses: Regular expression for canonical names that change the features and that the
            target cannot take.
        fresh: Regular expression for names there that keep their initial values.
        shared_table: Whether all blocks may share one table of relative positions there.
    """

    scheme: Scheme = schemes.CANONICAL
    steps: tuple[Step, ...] = ()
    final_norm: bool = True
    lacks: str = r'$^'
    refuses: str = r'$^'
    fresh: str = r'$^'
    shared_table: bool = True


@dataclass(frozen=True)
class Target:
    """One destination of a conversion.

    Args:
        name: What users call it.
        families: Family of backbones -> its names there.
        about: Short description of what can load the file.
        prefix: Whether the names may be given ``backbone.`` as prefix.
        by_mmengine: Whether mmengine loads the file.
    """

    name: str
    families: Mapping[str, Naming]
    about: str
    prefix: bool = True
    by_mmengine: bool = True


_STAGE_NORMS = r'norm\d+\.'  # before the outputs of stages: pre-training has at most the last one
_MM_OTHERS = {
    'resnet': Naming(),
    'convnext': Naming(fresh=_STAGE_NORMS),
    'swin': Naming(fresh=rf'{_STAGE_NORMS}|{_INDEX}'),
    'beit': Naming(steps=(expand_shared_table,), fresh=_INDEX),
}
_HEADLESS_VIT = Naming(final_norm=False)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target('mmpretrain', {'vit': Naming(), **_MM_OTHERS}, 'backbones of mmpretrain'),
        Target(
            'mmdet',
            {'vit': _HEADLESS_VIT, **{k: v for k, v in _MM_OTHERS.items() if k != 'beit'}},
            'backbones of mmdet, and mmpretrain.VisionTransformer (final_norm=False) inside a detector',
        ),
        Target(
            'mmseg',
            {
                **_MM_OTHERS,
                'vit': _HEADLESS_VIT,
                'beit': Naming(steps=(expand_shared_table,), final_norm=False, fresh=_INDEX),
            },
            'backbones of mmseg, and mmpretrain.VisionTransformer (final_norm=False) inside a segmentor',
        ),
        Target(
            'mmseg-vit',
            {'vit': Naming(scheme=schemes.MMSEG_VIT, final_norm=False, refuses=f'{LAYER_SCALE}|{_NOT_IN_PLAIN_VIT}')},
            'mmseg.VisionTransformer (patch_bias=True)',
            prefix=False,
        ),
        Target(
            'mmseg-mae',
            {
                'vit': Naming(
                    scheme=schemes.MMSEG_MAE,
                    final_norm=False,
                    fresh=r'layers\.\d+\.(gamma_[12]|attn\.relative_position_)',
                    refuses=_NOT_IN_PLAIN_VIT,
                ),
                'beit': Naming(
                    steps=(expand_shared_table, fuse_qv_bias),
                    final_norm=False,
                    fresh=rf'pos_embed$|{_INDEX}',
                    shared_table=False,
                ),
            },
            'mmseg.MAE (init_values=1.0 unless the file has layer scale)',
            prefix=False,
        ),
        Target(
            'timm',
            {
                'vit': Naming(scheme=schemes.TIMM_VIT, refuses=GATED),
                'beit': Naming(scheme=schemes.TIMM_VIT, lacks=_INDEX),
                'resnet': Naming(),
                'convnext': Naming(scheme=schemes.TIMM_CONVNEXT),
                'timm': Naming(scheme=schemes.TIMM_MODEL),
            },
            'timm models with num_classes=0',
            prefix=False,
            by_mmengine=False,
        ),
        Target(
            'torchvision',
            {'resnet': Naming(), 'convnext': Naming(scheme=schemes.TORCHVISION_CONVNEXT)},
            'torchvision models without their classifier',
            prefix=False,
            by_mmengine=False,
        ),
        Target(
            'hf',
            {
                'vit': Naming(
                    scheme=schemes.HUGGINGFACE,
                    refuses=rf'{_NOT_IN_PLAIN_VIT}|ln2\.',
                    fresh=_HF_FRESH,
                ),
                'vit-scaled': Naming(
                    scheme=schemes.HUGGINGFACE_DINOV2,
                    refuses=rf'{QK_NORM}|{PRE_NORM}|{GATED}|ln2\.',
                    fresh=_HF_FRESH,
                ),
            },
            'ViTModel of Hugging Face transformers (add_pooling_layer=False, layer_norm_eps=1e-6), with layer scale '
            'Dinov2Model or Dinov2WithRegistersModel',
            prefix=False,
            by_mmengine=False,
        ),
        Target(
            'official',
            {'swin': Naming(scheme=schemes.SWIN), 'convnext': Naming(scheme=schemes.CONVNEXT)},
            'the releases of Swin Transformer and ConvNeXt',
            prefix=False,
            by_mmengine=False,
        ),
    )
}


def naming_of(target: Target, family: Family, names: Iterable[str]) -> Naming | None:
    """Names of a family of backbones in a target; a ViT with layer scale may be another class there."""
    usual = target.families.get(family.name)
    scaled = family.name == 'vit' and any(re.match(LAYER_SCALE, name) for name in names)
    return target.families.get('vit-scaled', usual) if scaled else usual


def to_target(
    encoder: Encoder, target: Target, final_norm: bool | None = None, expand_shared_rel_pos: bool = True
) -> Entries:
    """Give an encoder the names and values of a target; tensors that the target does not use are left out.

    Args:
        encoder: An encoder under canonical names.
        target: Destination format.
        final_norm: Keep the norm after the last block of a ViT; None takes the target's default.
        expand_shared_rel_pos: Give every block its own copy of a relative position table that all blocks share, where
            the target's default is a table per block.

    Raises:
        CheckpointError: If the target has no such backbone, or cannot take a tensor that changes the features.
    """
    family, naming = check_places(encoder, target)
    # TEC's class token passes through an MLP that no other library has; after training its output is constant
    encoder = replace(encoder, entries=merge_class_token(encoder.entries))
    steps = [s for s in naming.steps if expand_shared_rel_pos or s is not expand_shared_table]
    if not expand_shared_rel_pos and not naming.shared_table and has_shared_table(encoder.entries):
        raise CheckpointError(
            f'{encoder.origin}: in target {target.name} blocks cannot share a table of relative positions; leave '
            '--no-expand-shared-rel-pos out'
        )
    with_norm = naming.final_norm if final_norm is None else final_norm
    lacks = [_MASK, naming.lacks, *([_FINAL_NORM] if family.is_vit and not with_norm else [])]
    entries = [e for e in encoder.entries if not any(re.match(each, e.name) for each in lacks)]
    for step in (*naming.scheme.write, *steps):
        entries = step(entries)
    return [replace(e, name=naming.scheme.table.from_canonical(e.name)) for e in entries]


def check_places(encoder: Encoder, target: Target) -> tuple[Family, Naming]:
    """Family of an encoder and its names in a target that can take all tensors that change the features.

    Raises:
        CheckpointError: If the target has no such backbone, or cannot take a tensor that changes its features.
    """
    family = encoder.family
    naming = naming_of(target, family, [entry.name for entry in encoder.entries])
    if naming is None:
        others = ', '.join(name for name, each in TARGETS.items() if family.name in each.families)
        raise CheckpointError(
            f'{encoder.origin} holds a backbone of the family {family.name}, which target {target.name} does not '
            f'support; targets that support it: {others}'
        )
    _refuse(encoder, target, naming, family)
    return family, naming


def _refuse(encoder: Encoder, target: Target, naming: Naming, family: Family) -> None:
    """Raise an error for tensors that change the features and that the target, or every target, cannot take."""
    names = [e.name for e in encoder.entries if not any(source in encoder.head for source, _ in e.origins)]
    staged = is_staged(names)
    refused = [
        name
        for name in names
        if re.match(naming.refuses, name) or (changes_features(name, staged) and not re.match(family.known, name))
    ]
    if refused:
        registers = encoder.state.get('register_tokens')
        raise CheckpointError(
            f'{encoder.origin} has {len(refused)} tensors ({refused[0]} ...) that change its features and that target '
            f'{target.name} cannot take: '
            f'{explain_unplaced(refused, 0 if registers is None else registers.shape[1])}'
        )
