"""Checkpoint formats: where the encoder lies in a file, what it is called there, what else the file holds.

Each format is one small record. :func:`read_encoder` finds the format of a file, takes the encoder out and gives it
canonical (mmpretrain) names; every source key ends as kept or dropped, exactly once.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import CheckpointError
from .io import read_checkpoint
from .rename import VIT_TIMM, RenameTable

StateDict = dict[str, torch.Tensor]

# where state dicts are found in a file, first match wins; a file without any of these is itself the state dict
_WRAPPERS = ('state_dict', 'model', 'module')
_KEEP_NAMES = RenameTable(())


@dataclass(frozen=True)
class Format:
    """How one family of checkpoints names its encoder.

    Args:
        name: What users call it.
        prefix: Text before the names of the encoder's tensors; anchored at the start, matched case by case.
        marks: Regular expressions (searched at the start of a name, prefix removed); all must be found.
        not_encoder: Regular expression for names behind the prefix that are no part of the encoder.
        table: Names there -> canonical names.
        momentum_prefix: Prefix of the exponential moving average of the encoder, where the file has one.
        projector: Names of the first linear layer of the projector and of the batch norm after it, where the format
            has one; ``{}`` stands for the encoder's prefix without ``backbone.``.
    """

    name: str
    prefix: str
    marks: tuple[str, ...]
    not_encoder: str
    table: RenameTable
    momentum_prefix: str | None = None
    projector: tuple[str, str] | None = None

    def prefix_of(self, branch: str, names: Iterable[str], origin: str) -> str:
        """Prefix of the ``base`` or ``momentum`` encoder among these names.

        Raises:
            CheckpointError: If the format has no such branch.
        """
        prefix = {'base': self.prefix, 'momentum': self.momentum_prefix}.get(branch)
        if prefix is None:
            raise CheckpointError(f'{origin} (format {self.name}) has no {branch} encoder; use branch="base"')
        return in_objective(prefix, names, origin)


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


_TIMM_MARKS = (r'blocks\.0\.attn\.qkv\.weight', r'patch_embed\.proj\.weight')
_CANONICAL = r'layers\.0\.|layer1\.0\.|downsample_layers\.0\.|patch_embed\.projection\.'

_VIT_HEAD, _RESNET_FC, _NECK = ('{}head.0', '{}head.1'), ('{}fc.0', '{}fc.1'), ('{}neck.fc0', '{}neck.bn0')


def _mocov3(prefix: str) -> tuple[Format, Format]:
    """MoCo v3's two formats, ViT and ResNet, below ``prefix``; its projector lies inside the encoder."""
    base, momentum = f'{prefix}base_encoder.', f'{prefix}momentum_encoder.'
    return (
        Format('mocov3', base, _TIMM_MARKS, r'head\.', VIT_TIMM, momentum, _VIT_HEAD),
        Format('mocov3-resnet', base, (r'layer1\.0\.',), r'fc\.', _KEEP_NAMES, momentum, _RESNET_FC),
    )


# order matters: the first format whose marks are all found is taken
FORMATS: tuple[Format, ...] = (
    *_mocov3('module.'),
    *_mocov3(''),
    Format('graft', 'backbone.', (_CANONICAL,), r'$^', _KEEP_NAMES, 'momentum_encoder.backbone.', _NECK),
    Format('mae', '', _TIMM_MARKS, r'(mask_token|decoder_|head\.|fc_norm\.|fc\.)', VIT_TIMM),
    Format('mae', 'module.', _TIMM_MARKS, r'(mask_token|decoder_|head\.|fc_norm\.|fc\.)', VIT_TIMM),
    Format('mmpretrain', '', (_CANONICAL,), r'(head\.|neck\.|fc\.)', _KEEP_NAMES),
)


@dataclass(frozen=True)
class Encoder:
    """An encoder taken out of a checkpoint.

    Args:
        state: Canonical name -> tensor, in the order of the file.
        format: Name of the format it was found in.
        dropped: Names (as in the file) of tensors that are no part of the encoder.
        origin: The file, for messages.
    """

    state: StateDict
    format: str
    dropped: tuple[str, ...]
    origin: str


def unwrap_state_dict(content: Mapping[str, Any]) -> StateDict:
    """Take the tensors out of a checkpoint: from ``state_dict``, ``model`` or ``module``, else from the top."""
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def format_names() -> list[str]:
    """Names accepted as ``format`` besides ``auto``."""
    return sorted({f.name for f in FORMATS})


def detect_format(names: list[str], origin: str = 'checkpoint', wanted: str = 'auto') -> Format:
    """Return the format of a file with these tensor names.

    Raises:
        CheckpointError: If the names fit no format, or not the one that was asked for, or there is none of that name.
    """
    if wanted != 'auto' and wanted not in format_names():
        raise CheckpointError(f'unknown checkpoint format {wanted!r}; known: auto, {", ".join(format_names())}')
    for candidate in FORMATS:
        inside = [n[len(candidate.prefix) :] for n in names if n.startswith(candidate.prefix)]
        fits = all(any(re.match(mark, n) for n in inside) for mark in candidate.marks)
        if inside and fits and wanted in ('auto', candidate.name):
            return candidate
    known = ', '.join(format_names())
    sample = ', '.join(names[:3]) or 'no tensors at all'
    expected = f'a checkpoint of format {wanted}' if wanted != 'auto' else f'one of the known formats ({known})'
    raise CheckpointError(f'{origin} is not {expected}: its tensors are named {sample} ...')


def to_encoder(content: Mapping[str, Any], origin: str, wanted: str = 'auto', branch: str = 'base') -> Encoder:
    """Take the encoder out of checkpoint content and give it canonical names.

    Args:
        content: What :func:`read_checkpoint` returned.
        origin: File name for messages.
        wanted: A format name, or ``auto`` to detect it.
        branch: ``base``, or ``momentum`` for the moving-average encoder where the format has one.

    Raises:
        CheckpointError: If the format is unknown or has no such branch.
    """
    state = unwrap_state_dict(content)
    found = detect_format(list(state), origin, wanted)
    prefix = found.prefix_of(branch, state, origin)
    kept, dropped = {}, []
    for name, tensor in state.items():
        inner = name[len(prefix) :]
        if name.startswith(prefix) and not re.match(found.not_encoder, inner):
            kept[found.table.to_canonical(inner)] = tensor
        else:
            dropped.append(name)
    if not kept:
        raise CheckpointError(f'{origin} (format {found.name}) holds no tensors of a {branch} encoder')
    return Encoder(kept, found.name, tuple(dropped), origin)


def read_encoder(
    path: str | os.PathLike, wanted: str = 'auto', branch: str = 'base', unsafe_pickle: bool = False
) -> Encoder:
    """Read a checkpoint file and take its encoder out; see :func:`to_encoder`."""
    return to_encoder(read_checkpoint(path, unsafe_pickle), str(path), wanted, branch)
