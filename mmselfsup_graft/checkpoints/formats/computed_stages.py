"""Values that a conversion computes for backbones of several stages: Swin and ConvNeXt. See :mod:`computed`."""

import re
from collections.abc import Callable
from dataclasses import replace

import torch

from mmselfsup_graft.errors import CheckpointError

from .computed import Entries

# ---------------------------------------------------------------- Swin
_MERGE = re.compile(r'stages\.\d+\.downsample\.(reduction|norm)\.(weight|bias)')
_QUARTERS = [0, 2, 1, 3]  # the release stacks the four neighbors by columns, mmcv's unfold by rows; its own inverse


def swin_merge_to_mm(entries: Entries) -> Entries:
    """Reorder the inputs of the patch merging layers, from the release's four quarters to mmcv's interleaved order.

    Raises:
        CheckpointError: If a layer does not read four patches.
    """

    def convert(x: torch.Tensor) -> torch.Tensor:  # [..., 4 C]
        return x.unflatten(-1, (4, -1))[..., _QUARTERS, :].transpose(-1, -2).flatten(-2)

    return _merge_layers(entries, convert, 'swin_merge')


def swin_merge_from_mm(entries: Entries) -> Entries:
    """The reverse of :func:`swin_merge_to_mm`."""

    def convert(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (-1, 4)).transpose(-1, -2)[..., _QUARTERS, :].flatten(-2)

    return _merge_layers(entries, convert, 'swin_unmerge')


def _merge_layers(entries: Entries, convert: Callable[[torch.Tensor], torch.Tensor], op: str) -> Entries:
    done = []
    for entry in entries:
        if _MERGE.fullmatch(entry.name):
            if not entry.tensor.ndim or entry.tensor.shape[-1] % 4:
                raise CheckpointError(
                    f'{entry.name} has shape {tuple(entry.tensor.shape)}: its last size must be a multiple of 4, for '
                    'the four merged patches'
                )
            entry = entry.changed(op, convert(entry.tensor).contiguous())
        done.append(entry)
    return done


_NUMBERED_NORM = re.compile(r'norm(\d+)(\..+)')


def _last_stage(entries: Entries) -> int:
    matches = (re.match(r'stages\.(\d+)\.', entry.name) for entry in entries)
    return max((int(match[1]) for match in matches if match), default=0)


def number_final_norm(entries: Entries) -> Entries:
    """Call the release's ``norm`` after the last stage as mmpretrain does, which numbers it: ``norm3`` of four."""
    last = _last_stage(entries)
    return [
        replace(each, name=f'norm{last}{each.name[4:]}') if each.name.startswith('norm.') else each for each in entries
    ]


def unnumber_final_norm(entries: Entries) -> Entries:
    """The reverse of :func:`number_final_norm`."""
    last, done = _last_stage(entries), []
    for entry in entries:
        match = _NUMBERED_NORM.fullmatch(entry.name)
        done.append(replace(entry, name=f'norm{match[2]}') if match and int(match[1]) == last else entry)
    return done


# ---------------------------------------------------------------- ConvNeXt
_GAMMA = re.compile(r'stages\.\d+\.\d+\.gamma')


def scale_to_map(entries: Entries) -> Entries:
    """Layer scale [C] as the map [C, 1, 1] of torchvision's ConvNeXt."""
    return [e.changed('reshape', e.tensor.reshape(-1, 1, 1)) if _GAMMA.fullmatch(e.name) else e for e in entries]


def scale_to_vector(entries: Entries) -> Entries:
    """Layer scale [C, 1, 1] of torchvision's ConvNeXt as the vector [C]."""
    return [e.changed('reshape', e.tensor.reshape(-1)) if _GAMMA.fullmatch(e.name) else e for e in entries]
