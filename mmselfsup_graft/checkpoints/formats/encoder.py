"""Checkpoint formats: where the encoder is in a file, its names there, and other content of the file.

Each format is one small record in :mod:`.records`. :func:`read_encoder` finds the format of a file, takes the
encoder out and gives it canonical (mmpretrain) names; every source key is reported as kept or dropped, exactly once.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import getitem
from typing import Any

import torch

from mmselfsup_graft.checkpoints.families import Family, family_of
from mmselfsup_graft.checkpoints.finite_values import check_weights, refuse_other_values
from mmselfsup_graft.checkpoints.reading.reader import CONVERT_OR_ALLOW, read_checkpoint
from mmselfsup_graft.checkpoints.tokens import CLASS_ROW, place_positions, refuse_extra_tokens
from mmselfsup_graft.errors import CheckpointError, FormatMismatchError

from .computed import IDENTITY, Entries, Entry
from .layouts import WRAPPERS, Holder, Match, StateDict, choose, find_holders, find_matches, other_matches
from .records import FORMATS, Format, Normalization, format_names
from .rename import VIT_TIMM
from .stated import refuse_variants, suggested_variant
from .traits import UNKNOWN, Traits, read_traits


@dataclass(frozen=True)
class Located:
    """Location of an encoder in a file.

    Args:
        format: The format that was found.
        branch: Which of its encoders.
        state: Tensors of the file that include it, without the parts of names that ``torch.compile`` adds.
        prefix: Text before the encoder's names.
        origin: The file, for messages.
        holder: The mapping that holds the tensors.
        traits: Properties of the encoder that the file states besides its tensors.
        notes: Notes for the user about the choice.
    """

    format: Format
    branch: str
    state: StateDict
    prefix: str
    origin: str
    holder: Holder
    traits: Traits = UNKNOWN
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """An encoder taken out of a checkpoint.

    Args:
        entries: Its tensors under canonical names, with where they came from, in the order of the file.
        format: Name of the format it was found in.
        branch: Which encoder of the file.
        dropped: Names (as in the file) of tensors that are not part of the encoder.
        origin: The file, for messages.
        normalization: How images were normalized, if that is known.
        head: Names (as in the file) of tensors that were kept on request although they are not part of the encoder.
        traits: Properties of the encoder besides its tensors.
        notes: Notes for the user about the place where it was found.
    """

    entries: Entries
    format: str
    branch: str
    dropped: tuple[str, ...]
    origin: str
    normalization: Normalization | None = None
    head: frozenset[str] = frozenset()
    traits: Traits = UNKNOWN
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> StateDict:
        """Canonical name -> tensor."""
        return {entry.name: entry.tensor for entry in self.entries}

    @property
    def family(self) -> Family:
        """Family of backbones that it belongs to; see :func:`family_of`."""
        return family_of((entry.name for entry in self.entries), self.origin)

    @property
    def has_position_table(self) -> bool:
        """Whether it has tensors that depend on the size of the images."""
        return self.family.is_vit or 'absolute_pos_embed' in self.state


# ---------------------------------------------------------------- the tensors of a file
def unwrap_state_dict(content: Mapping[str, Any], wrapper: str | None = None, origin: str | None = None) -> StateDict:
    """Take the tensors out of a checkpoint, under their names in the file.

    Args:
        content: Result of :func:`read_checkpoint`.
        wrapper: Key that holds them; None looks for ``state_dict``, ``model`` and other usual keys, else takes the top
            level.
        origin: The file, for the message; None ignores values that are not tensors, whatever their names.

    Raises:
        CheckpointError: If a value with the name of a weight is not a tensor.
    """
    key = _holder_key(content, wrapper)
    if key is not None:
        content = content[key]
    elif wrapper:
        content = {}
    if origin is not None:
        refuse_other_values(origin, content)
    return {name: v for name, v in content.items() if isinstance(name, str) and isinstance(v, torch.Tensor)}


def _holder_key(content: Mapping[str, Any], wrapper: str | None) -> str | None:
    """The key at the top of a checkpoint that holds its tensors; None if they are at the top level."""
    keys = (wrapper,) if wrapper else WRAPPERS
    return next((key for key in keys if isinstance(content.get(key), Mapping)), None)


def beside(content: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Top-level keys of a checkpoint besides the mapping at ``path``: optimizer, epoch."""
    if path:
        return [str(name) for name in content if name != path[0]]
    return [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]


def in_objective(prefix: str, names: Iterable[str], origin: str) -> str:
    """``prefix``, or, if no name begins with it, ``objectives.NAME.prefix``, as in a multi-task model.

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


# ---------------------------------------------------------------- the format and the encoder
def detect_format(content: Mapping[str, Any]) -> Format | None:
    """First format that fits checkpoint content; None if none does."""
    found = _detect(find_holders(content))
    return found[0] if found else None


def _detect(holders: Sequence[Holder]) -> tuple[Format, list[Match]] | None:
    for candidate in FORMATS:
        hits = find_matches(candidate, holders)
        if hits:
            return candidate, hits
    return None


def _sample(holders: Sequence[Holder]) -> str:
    """Some names of a file, with the key above them, for messages."""
    if not holders:
        return 'no tensors at all'
    largest = max(holders, key=lambda holder: len(holder.state))
    below = f' (under {".".join(largest.path)!r})' if largest.path else ''
    return ', '.join(list(largest.file_names.values())[:3]) + f' ...{below}'


def locate(content: Mapping[str, Any], origin: str, wanted: str = 'auto', branch: str | None = None) -> Located:
    """Find the encoder in checkpoint content.

    Args:
        content: Result of :func:`read_checkpoint`.
        origin: File name for messages.
        wanted: Name of a format or method, or ``auto`` to detect it.
        branch: Name of one of the encoders in the file: a branch of its format, a key of the file or a prefix of its
            names; None takes the usual one.

    Raises:
        FormatMismatchError: If it is another format than the one that was asked for.
        CheckpointError: If the format is unknown, cannot be read, has no such branch, or holds several encoders and
            it is unclear which one is meant.
    """
    known = format_names()
    if wanted != 'auto' and wanted not in known:
        raise CheckpointError(f'unknown checkpoint format {wanted!r}; known: auto, {", ".join(known)}')
    holders = find_holders(content)
    detected = _detect(holders)
    if detected is None:
        expected = (
            f'a checkpoint of format {wanted}' if wanted != 'auto' else f'one of the known formats ({", ".join(known)})'
        )
        raise CheckpointError(f'{origin} is not {expected}: its tensors are named {_sample(holders)}')
    found, hits = detected
    if wanted not in ('auto', found.name, *found.also):
        raise FormatMismatchError(
            f'{origin} is not a checkpoint of format {wanted}: its tensors are named as in format {found.name}; '
            f'use {found.name} or auto'
        )
    if found.refusal:
        raise CheckpointError(f'{origin} (format {found.name}) is {found.refusal}')
    others = other_matches(hits, [each for each in FORMATS if each.scheme.table is found.scheme.table], holders)
    hit, notes = choose(found, hits, others, branch, origin)
    refuse_other_values(origin, reduce(getitem, hit.holder.path, content), hit.prefix)
    if found.normalization is None and wanted in found.also:
        found = replace(found, normalization=Normalization())  # known from the requested method
    refuse_variants(content, origin)
    suggested = suggested_variant(os.path.basename(origin))
    if suggested:
        notes = [*notes, f'warning: its name suggests {suggested}, which no tensor shows; a plain encoder is assumed']
    return Located(
        format=found,
        branch=hit.branch or str(branch),
        state=hit.holder.state,
        prefix=hit.prefix,
        origin=origin,
        holder=hit.holder,
        traits=read_traits(content, origin),
        notes=tuple(notes),
    )


def take_encoder(located: Located, keep_head: bool = False, grid: tuple[int, int] | None = None) -> Encoder:
    """Extract a located encoder and give it canonical names.

    Args:
        located: Where it lies.
        keep_head: Keep everything after the prefix, under its own name where it is not part of the encoder.
        grid: Patches per column and per row, (H, W), for which its position tables are; None uses the value in the
            file.

    Raises:
        CheckpointError: If there are no tensors, they are not finite floating-point numbers, a value cannot be
            computed, or the grid is another one.
    """
    found, prefix, origin = located.format, located.prefix, located.origin
    entries: Entries = []
    head = set()
    for name, tensor in located.state.items():
        inner, source = name[len(prefix) :], located.holder.file_names[name]
        if not name.startswith(prefix):
            continue
        if not re.match(found.not_encoder, inner):
            entries.append(Entry(found.scheme.table.to_canonical(inner), tensor, ((source, IDENTITY),)))
        elif keep_head:
            entries.append(Entry(inner, tensor, ((source, IDENTITY),)))
            head.add(source)
    if len(entries) == len(head):
        raise CheckpointError(f'{origin} (format {found.name}) holds no tensors of a {located.branch} encoder')
    check_weights(origin, {source: each.tensor for each in entries for source, _ in each.origins})
    refuse_extra_tokens((entry.name for entry in entries), origin)
    for step in found.scheme.read:
        entries = step(entries)
    timm = found.scheme.table is VIT_TIMM
    traits = replace(located.traits, grid=_grid(located.traits, grid, entries, origin, timm))
    untold = _unknown_options(entries, traits)
    if timm and traits.norm_eps is None and any(entry.name.startswith('pre_norm.') for entry in entries):
        traits = replace(traits, norm_eps=_CLIP_EPS)
    if traits.num_heads is None:
        traits = replace(traits, num_heads=_heads(found, entries))
    entries = place_positions(entries, traits.grid, origin, timm)
    used = {source for entry in entries for source, _ in entry.origins}
    dropped = tuple(name for name in located.holder.file_names.values() if name not in used)
    return Encoder(
        entries=entries,
        format=found.name,
        branch=located.branch,
        dropped=dropped,
        origin=origin,
        normalization=_normalization(traits) or found.normalization,
        head=frozenset(head),
        traits=traits,
        notes=(*located.notes, *_assumed(entries, traits.grid), *_not_stated(found, entries, traits), *untold),
    )


def _grid(
    traits: Traits, given: tuple[int, int] | None, entries: Entries, origin: str, timm: bool
) -> tuple[int, int] | None:
    """The grid that was given, else the one stored in the file if it fits the position table."""
    if given is not None or traits.grid is None:
        return given
    try:
        place_positions(entries, traits.grid, origin, timm)
    except CheckpointError:
        return None
    return traits.grid


def _assumed(entries: Entries, grid: tuple[int, int] | None) -> list[str]:
    """Notes on what is assumed where the grid of patches is unknown."""
    rows = [e.tensor.shape[1] for e in entries for _, op in e.origins if op == CLASS_ROW]
    if grid is not None or not rows:
        return []
    side = round((rows[0] - 1) ** 0.5)
    return [f'position table without a row for the class token: {side} x {side} patches assumed (see --source-grid)']


def _not_stated(found: Format, entries: Entries, traits: Traits) -> list[str]:
    """A note on what cannot be checked in a file that holds tensors alone."""
    names = {entry.name for entry in entries}
    if not found.bare:
        return []
    if 'layer1.0.conv1.weight' in names and traits.style is None:
        return ['not stated by the file, taken as usual: strides in the 3 x 3 convolutions, max pooling']
    if 'layers.0.attn.qkv.weight' in names and traits.act is None and traits.num_heads is None:
        return ['not stated by the file: the activation (taken as GELU) and the number of attention heads']
    return []


_CLIP_EPS = 1e-5  # of the only ViTs of timm with a norm before the blocks


def _heads(found: Format, entries: Entries) -> int | None:
    """Attention heads of a release by its width, where the format defines them."""
    tokens = [entry.tensor for entry in entries if entry.name == 'cls_token' and entry.tensor.ndim]
    return found.heads.get(tokens[0].shape[-1]) if tokens else None


def _unknown_options(entries: Entries, traits: Traits) -> list[str]:
    """Warnings about options that change the features of such an encoder and that no tensor shows."""
    if traits.norm_eps is not None:  # a file of this toolbox, which has none of these
        return []
    notes = []
    if any(entry.name.startswith('pre_norm.') for entry in entries):
        notes.append(
            'warning: a norm before the blocks, as in CLIP; no tensor shows its activation (GELU is assumed, not '
            'QuickGELU), the epsilon of its norms (1e-5 in CLIP) and whether it has rotary positions (not assumed)'
        )
    elif any(re.search(r'blocks\.\d+\.gamma_1$', source) for entry in entries for source, _ in entry.origins):
        notes.append('warning: no tensor shows whether it has rotary positions, as some of timm do; not assumed')
    return notes


def _normalization(traits: Traits) -> Normalization | None:
    if traits.mean is None or traits.std is None:
        return None
    return Normalization(tuple(v / 255 for v in traits.mean), tuple(v / 255 for v in traits.std))


def to_encoder(
    content: Mapping[str, Any],
    origin: str,
    wanted: str = 'auto',
    branch: str | None = None,
    grid: tuple[int, int] | None = None,
) -> Encoder:
    """Extract the encoder from checkpoint content and give it canonical names; see :func:`locate`."""
    return take_encoder(locate(content, origin, wanted, branch), grid=grid)


def read_encoder(
    path: str | os.PathLike,
    wanted: str = 'auto',
    branch: str | None = None,
    unsafe_pickle: bool = False,
    grid: tuple[int, int] | None = None,
) -> Encoder:
    """Read a checkpoint file and extract its encoder; see :func:`locate` and :func:`take_encoder`."""
    return to_encoder(read_checkpoint(path, unsafe_pickle, CONVERT_OR_ALLOW), str(path), wanted, branch, grid)
