"""Extra tokens of a ViT and their rows in its position table, in one common form.

The common form: a row for the class token, then the patches; registers have no position. Adding a row of zeros,
or a token's position to the token, does not change the features.
"""

import re
from collections.abc import Iterable

import torch

from mmselfsup_graft.checkpoints.formats.computed import Entries, Entry
from mmselfsup_graft.errors import CheckpointError

from .pos_embed import GRID_OPTION, grid_text

_TABLE, _CLASS, _REGISTERS = 'pos_embed', 'cls_token', 'register_tokens'
_SWIN_TABLE = 'absolute_pos_embed'
CLASS_ROW = 'class_row'
_RELATIVE = re.compile(r'(layers\.\d+\.attn|rel_pos_bias)\.relative_position_bias_table$')
_DISTILLED = ('dist_token', 'distillation_token', 'embeddings.distillation_token')


def refuse_extra_tokens(names: Iterable[str], origin: str) -> None:
    """Raise an error for an encoder with a distillation token, which takes part in attention and has its own position.

    Raises:
        CheckpointError: If there is one.
    """
    found = [name for name in names if name in _DISTILLED]
    if found:
        raise CheckpointError(
            f'{origin} holds a ViT with a distillation token ({found[0]}, with its own row in the position '
            'table): its features depend on that token and no backbone of this toolbox has one; use a checkpoint '
            'trained without a distillation token'
        )


def place_positions(entries: Entries, grid: tuple[int, int] | None, origin: str, timm: bool = False) -> Entries:
    """Give the position table a row for the class token and none for registers.

    timm has tables of patches alone (``no_embed_class``) and tables with rows for registers (``reg_token``).

    Args:
        entries: An encoder under canonical names.
        grid: Grid of its patches (H, W); None if unknown: then the patches must form a square.
        origin: The file, for messages.
        timm: Whether the file has timm's names, where a table may have rows for patches only.

    Raises:
        CheckpointError: If the tables fit no possible grid, or the registers do not have three dimensions.
    """
    placed = _placed(entries, grid, origin, timm)
    if grid is not None:
        _check_tables(placed, grid, origin)
    return placed


def _check_tables(entries: Entries, grid: tuple[int, int], origin: str) -> None:
    """Raise an error for absolute or relative tables of another grid of patches (H, W)."""
    offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    classes = any(entry.name == _CLASS for entry in entries)
    for entry in entries:
        rows = entry.tensor.shape[entry.name in (_TABLE, _SWIN_TABLE)] if entry.tensor.ndim > 1 else 0
        # DeiT III of mmpretrain has no row for its class token
        absolute = entry.name == _TABLE and rows - grid[0] * grid[1] not in (0, classes)
        absolute |= entry.name == _SWIN_TABLE and rows != grid[0] * grid[1]
        relative = _RELATIVE.match(entry.name) and rows not in (offsets, offsets + 3)
        if absolute or relative:
            raise CheckpointError(
                f'{origin}: {entry.name} has {rows} rows, which is not a grid of {grid_text(grid)} patches'
            )


def _placed(entries: Entries, grid: tuple[int, int] | None, origin: str, timm: bool) -> Entries:
    by_name = {entry.name: entry for entry in entries}
    table, token, registers = (by_name.get(name) for name in (_TABLE, _CLASS, _REGISTERS))
    if registers is not None and registers.tensor.ndim != 3:
        raise CheckpointError(f'{origin}: registers must have shape [1, N, D], got {tuple(registers.tensor.shape)}')
    if table is None or token is None or table.tensor.ndim != 3:
        return entries
    rows = table.tensor.shape[1]
    count = registers.tensor.shape[1] if registers is not None else 0
    form = _form(rows, count, timm, _is_timm(registers), grid, origin)
    if form == 'patches':
        row = table.tensor.new_zeros(1, 1, table.tensor.shape[2])
        new = table.changed(CLASS_ROW, torch.cat([row, table.tensor], dim=1))
        return [new if entry is table else entry for entry in entries]
    if form == 'all' and registers is not None:
        head, own, patches = table.tensor.split([1, count, rows - 1 - count], dim=1)
        new = table.changed('register_rows', torch.cat([head, patches], dim=1))
        moved = registers.changed('add_position', _sum(registers, own))
        return [new if e is table else moved if e is registers else e for e in entries]
    return entries


def _sum(token: Entry, position: torch.Tensor) -> torch.Tensor:
    """Tokens [1, N, D] with their rows of the position table added."""
    if token.tensor.shape != position.shape:
        raise CheckpointError(
            f'{token.name} has shape {tuple(token.tensor.shape)}, its rows in the position table '
            f'{tuple(position.shape)}; check the file'
        )
    return token.tensor + position


def check_assumed(entries: Entries, source: tuple[int, int] | None, target: tuple[int, int]) -> None:
    """Raise an error if a table is resized to a non-square grid after a row was added assuming a square grid.

    Raises:
        CheckpointError: In that case.
    """
    if source is None and target[0] != target[1] and any(op == CLASS_ROW for e in entries for _, op in e.origins):
        raise CheckpointError(f'the grid of the position table is unknown; give it: {GRID_OPTION}')


def _is_timm(registers: Entry | None) -> bool:
    return registers is not None and any(source.endswith('reg_token') for source, _ in registers.origins)


def _form(
    rows: int, registers: int, timm: bool, timm_registers: bool, grid: tuple[int, int] | None, origin: str
) -> str:
    """``class`` (class token and patches), ``patches`` (patches alone) or ``all`` (registers as well)."""
    forms = {'class': rows - 1, **({'patches': rows} if timm else {})}
    if timm_registers:  # no row for the class token without rows for registers
        forms = {'patches': rows, 'all': rows - 1 - registers}
    if grid is not None:
        for form, count in forms.items():
            if count == grid[0] * grid[1]:
                return form
        if rows == grid[0] * grid[1]:
            return 'class'  # its row is missing, which a model that needs it reports
        raise CheckpointError(
            f'{origin}: its position table has {rows} rows, which is not a grid of {grid_text(grid)} patches'
        )
    squares = [form for form, count in forms.items() if count > 0 and round(count**0.5) ** 2 == count]
    if len(squares) == 1:
        return squares[0]
    if 'class' in forms:  # the usual form; resizing asks for the grid
        return 'class'
    raise CheckpointError(
        f'{origin}: its position table has {rows} rows, and how many of them are patches is unknown; give the grid: '
        f'{GRID_OPTION}'
    )


def merge_class_row(entries: Entries) -> Entries:
    """The reverse for timm's ViT with registers: a table of patches only, the class token with its position added."""
    by_name = {entry.name: entry for entry in entries}
    table, token = by_name.get(_TABLE), by_name.get(_CLASS)
    if _REGISTERS not in by_name or table is None or token is None:
        return entries
    new = table.changed('class_row_out', table.tensor[:, 1:].clone())
    moved = token.changed('add_position', _sum(token, table.tensor[:, :1]))
    return [new if e is table else moved if e is token else e for e in entries]
