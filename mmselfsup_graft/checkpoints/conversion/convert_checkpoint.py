"""Conversion of a checkpoint from any known format to any target, with a report on every tensor."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmselfsup_graft.checkpoints.formats.computed import IDENTITY, Entries
from mmselfsup_graft.checkpoints.formats.encoder import Encoder, Normalization, StateDict, beside, locate, take_encoder
from mmselfsup_graft.checkpoints.formats.rename import grouped_names
from mmselfsup_graft.checkpoints.formats.traits import UNKNOWN, Traits
from mmselfsup_graft.checkpoints.pos_embed import resize_position_table, resize_relative_table
from mmselfsup_graft.checkpoints.timm_names import canonical
from mmselfsup_graft.checkpoints.tokens import check_assumed
from mmselfsup_graft.errors import CheckpointError

from .architecture import Architecture, architecture_of
from .targets import TARGETS, Target, check_places, to_target


@dataclass(frozen=True)
class Conversion:
    """A converted encoder and the report on its tensors.

    Args:
        entries: Tensors under the names of the target, with where they came from.
        dropped: Names in the file of the tensors that were left out, in its order.
        format: Format of the file.
        branch: Which encoder of the file.
        architecture: Architecture inferred from the shapes.
        target: Destination format.
        normalization: How images were normalized, if that is known.
        head: Names in the target of the tensors that were kept on request although they are not part of the encoder.
        prefix: Text before every name.
        beside: Top-level entries of the file besides the tensors of the encoder; not read.
        traits: Properties of the encoder besides its tensors.
        notes: Notes for the user about the place where it was found.
    """

    entries: Entries
    dropped: tuple[str, ...]
    format: str
    branch: str
    architecture: Architecture
    target: Target
    normalization: Normalization | None
    head: frozenset[str] = frozenset()
    prefix: str = ''
    beside: tuple[str, ...] = ()
    traits: Traits = UNKNOWN
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> StateDict:
        """Target name -> tensor."""
        return {entry.name: entry.tensor for entry in self.entries}

    @property
    def bare_state(self) -> StateDict:
        """The state without the prefix."""
        return {name.removeprefix(self.prefix): tensor for name, tensor in self.state.items()}

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """(name in the file, name in the target, operation) of every tensor that was taken."""
        return [(source, entry.name, op) for entry in self.entries for source, op in entry.origins]


def convert(
    content: Mapping[str, Any],
    origin: str,
    target: str,
    wanted: str = 'auto',
    *,
    branch: str | None = None,
    keep_head: bool = False,
    final_norm: bool | None = None,
    img_size: tuple[int, int] | None = None,
    prefix: str = '',
    grid: tuple[int, int] | None = None,
    num_heads: int | None = None,
    expand_shared_rel_pos: bool = True,
) -> Conversion:
    """Convert checkpoint content.

    Args:
        content: Result of :func:`read_checkpoint`.
        origin: File name for messages.
        target: Name of a target, see :data:`TARGETS`.
        wanted: Format or method of the file, or ``auto``.
        branch: Which encoder of the file; None takes the format's first.
        keep_head: Keep the projection head that lies inside the encoder, as MMDetection's converter does.
        final_norm: Keep the norm after the last block of a ViT; None takes the target's default.
        img_size: (H, W) in pixels to which position tables are resized; None leaves them.
        prefix: Text to put before every name.
        grid: Patches per column and per row, (H, W), for which the position tables of the file are; None uses the
            value in the file, else a square.
        num_heads: Attention heads of a ViT; None uses the value in the file.
        expand_shared_rel_pos: Give every block its own copy of a relative position table that all blocks share, where
            the target's default is a table per block.

    Raises:
        CheckpointError: If the file does not fit, the target has no such backbone, or two tensors would get one name.
    """
    if target not in TARGETS:
        raise CheckpointError(f'unknown target {target!r}; known: {", ".join(TARGETS)}')
    where = TARGETS[target]
    located = locate(content, origin, wanted, branch)
    encoder = take_encoder(located, keep_head, grid)
    if num_heads is not None:
        encoder = replace(encoder, traits=replace(encoder.traits, num_heads=num_heads))
    if where.name != 'timm':
        encoder = canonical(encoder)
    check_places(encoder, where)  # names the tensors that are there; the shapes would only show which are missing
    architecture = architecture_of(encoder, img_size)
    if img_size is not None:
        encoder = _resized(encoder, img_size)
    entries = to_target(encoder, where, final_norm, expand_shared_rel_pos)
    used = {source for entry in entries for source, _ in entry.origins}
    dropped = tuple(name for name in located.holder.file_names.values() if name not in used)
    if prefix:
        entries = [replace(entry, name=prefix + entry.name) for entry in entries]
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise CheckpointError(f'{origin}: two of its tensors would have the name {twice[0]} in target {target}')
    return Conversion(
        entries=entries,
        dropped=dropped,
        format=encoder.format,
        branch=encoder.branch,
        architecture=architecture,
        target=where,
        normalization=encoder.normalization,
        head=frozenset(entry.name for entry in entries if any(source in encoder.head for source, _ in entry.origins)),
        prefix=prefix,
        beside=tuple(beside(content, located.holder.path)),
        traits=encoder.traits,
        notes=encoder.notes,
    )


# ---------------------------------------------------------------- position tables
def _resized(encoder: Encoder, img_size: tuple[int, int]) -> Encoder:
    """The encoder with position tables for images of this size."""
    if not encoder.has_position_table:
        raise CheckpointError(f'{encoder.origin} holds no position table that depends on the image size')
    patch = tuple(encoder.state['patch_embed.projection.weight'].shape[-2:])
    if img_size[0] % patch[0] or img_size[1] % patch[1]:
        raise CheckpointError(
            f'image size {img_size[0]} x {img_size[1]} is not a multiple of the patches of {patch[0]} x {patch[1]} '
            'pixels'
        )
    grid = (img_size[0] // patch[0], img_size[1] // patch[1])
    check_assumed(encoder.entries, encoder.traits.grid, grid)
    extra = 1 if 'cls_token' in encoder.state else 0
    done = []
    for entry in encoder.entries:
        if entry.name.endswith('relative_position_index') and not entry.name.startswith('stages.'):
            continue  # the target computes its own for the new size
        new = entry.tensor
        if entry.name in ('pos_embed', 'absolute_pos_embed'):  # the latter is Swin's
            new = resize_position_table(entry.tensor, grid, extra, encoder.traits.grid)
        elif entry.name.endswith('relative_position_bias_table') and not entry.name.startswith('stages.'):
            new = resize_relative_table(entry.tensor, grid, 3 * extra, encoder.traits.grid)
        done.append(entry if new is entry.tensor else entry.changed('resize', new))
    return replace(encoder, entries=done, traits=replace(encoder.traits, img_size=img_size, grid=grid))


# ---------------------------------------------------------------- summary
def summary(conversion: Conversion) -> str:
    """Counts of what was kept, computed and dropped."""
    ops = Counter(re.sub(r':\d+', '', op) for _, _, op in conversion.rows)
    kept = ops.pop(IDENTITY, 0)
    inner = [name.removeprefix('module.') for name in conversion.dropped]
    dropped = f': {grouped_names(inner)}' if inner else ''
    lines = [
        f'format {conversion.format} ({conversion.branch} encoder, {conversion.architecture}) -> '
        f'{conversion.target.name}: {conversion.target.about}',
        f'  {kept:4d} tensors kept',
        *(f'  {count:4d} by {op}' for op, count in ops.items()),
        f'  {len(conversion.dropped):4d} dropped{dropped}',
        *(f'       {note}' for note in conversion.notes),
    ]
    if conversion.beside:
        lines.append(f'       not read: {", ".join(conversion.beside)}')
    return '\n'.join(lines)
