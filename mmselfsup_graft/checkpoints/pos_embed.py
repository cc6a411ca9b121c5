"""Position tables: fixed 2-D sine-cosine tables, and resizing of absolute and relative tables."""

import numpy as np
import torch
import torch.nn.functional as F

from mmselfsup_graft.errors import CheckpointError, ConfigError


def sincos_table(grid: tuple[int, int], width: int, layout: str = 'mae') -> torch.Tensor:
    """Build the fixed 2-D sine-cosine table with a zero row for the class token.

    With ``w_k = 10000^(-k / (width / 4))``, the entry of row ``y`` and column ``x`` of the patch grid is
    ``[sin(x w), cos(x w), sin(y w), cos(y w)]`` in MAE; MoCo v3 exchanges rows and columns.

    Args:
        grid: Patches per column and per row, ``(H, W)``.
        width: Embedding width D, a multiple of 4.
        layout: ``mae`` or ``mocov3``.

    Returns:
        float32 table of shape [1, 1 + H * W, D].

    Raises:
        ConfigError: If the width is not a multiple of 4 or the layout is unknown.
    """
    if width % 4:
        raise ConfigError(f'a sine-cosine position table needs a width divisible by 4, got {width}')
    if layout not in ('mae', 'mocov3'):
        raise ConfigError(f'unknown position table layout {layout!r}; choose mae or mocov3')
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing='ij')
    first, second = (columns, rows) if layout == 'mae' else (rows, columns)
    angles = [axis.reshape(-1, 1) * omega for axis in (first, second)]  # each [H * W, D / 4]
    table = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table])[None].float()


#: how to give the grid of a source, for messages
GRID_OPTION = (
    '--source-grid HxW of the converters and of tools/test.py, dict(checkpoint=..., grid=(H, W)) in a graft '
    '(patches per column and per row)'
)


def source_grid(count: int, target: tuple[int, int], known: tuple[int, int] | None, what: str) -> tuple[int, int]:
    """Grid (H, W) of a table with entries for ``count`` patches.

    Only a square grid can be inferred from a number. If the target grid has another shape with the same number of
    patches, the table may be for that shape as well.

    Args:
        count: Number of patches.
        target: Grid to which it is to be resized.
        known: The grid, if known; else None.
        what: Name of the table in messages.

    Raises:
        CheckpointError: If it is not known, or not one of ``count`` patches.
    """
    if known is not None:
        if known[0] * known[1] != count:
            raise CheckpointError(f'{what} has {count} patches, which is not a grid of {known[0]} x {known[1]}')
        return known
    side = round(count**0.5)
    if side * side != count:
        raise CheckpointError(f'{what} has {count} patches, which is not a square grid; give the grid: {GRID_OPTION}')
    if target[0] != target[1] and target[0] * target[1] == count:
        raise CheckpointError(
            f'{what} has {count} patches, which may be {side} x {side} or {target[0]} x {target[1]} as the model has '
            f'them; give the grid: {GRID_OPTION}'
        )
    return side, side


def resize_position_table(
    table: torch.Tensor, grid: tuple[int, int], extra: int = 1, source: tuple[int, int] | None = None
) -> torch.Tensor:
    """Resample a position table to another patch grid, bicubically, as MAE's fine-tuning does.

    Args:
        table: [1, extra + H' * W', D].
        grid: Target grid (H, W).
        extra: Leading entries (class token), which are not changed.
        source: Its grid (H', W'); None means a square grid.

    Returns:
        Table of shape [1, extra + H * W, D] in the dtype of the input.

    Raises:
        CheckpointError: If the source grid is not known, see :func:`source_grid`, or the table does not
            have three dimensions.
    """
    if table.ndim != 3 or table.shape[1] <= extra:
        raise CheckpointError(f'a position table must have shape [1, positions, width], got {tuple(table.shape)}')
    head, patches = table[:, :extra], table[:, extra:]
    source = source_grid(patches.shape[1], grid, source, 'position table')
    if source == tuple(grid):
        return table
    work = patches.float() if patches.dtype in (torch.float16, torch.bfloat16) else patches
    image = work.reshape(1, *source, -1).permute(0, 3, 1, 2)  # [1, D, H', W']
    image = F.interpolate(image, size=tuple(grid), mode='bicubic', align_corners=False)
    resized = image.permute(0, 2, 3, 1).flatten(1, 2)  # [1, H * W, D]
    return torch.cat([head, resized.to(table.dtype)], dim=1)


def resize_relative_table(
    table: torch.Tensor, grid: tuple[int, int], extra: int, source: tuple[int, int] | None = None
) -> torch.Tensor:
    """Resample a table of relative position biases to another grid of patches (or another window).

    As in SimMIM's release: the known offsets are placed at the sums of a geometric progression, dense around offset 0,
    such that they span the new range, and a bicubic spline through them is evaluated at whole offsets.

    Args:
        table: [(2 H' - 1) (2 W' - 1) + extra, heads].
        grid: Target grid (H, W).
        extra: Rows at the end (of the class token), which are not changed.
        source: Its grid (H', W'); None means a square grid.

    Returns:
        Table of [(2 H - 1) (2 W - 1) + extra, heads] in the dtype of the input.

    Raises:
        CheckpointError: If the source grid is not known, or smaller than 3 x 3, or the table does not have two
            dimensions.
    """
    from scipy.interpolate import RectBivariateSpline  # slow to import

    if table.ndim != 2 or len(table) <= extra:
        raise CheckpointError(f'a relative position table must have shape [offsets, heads], got {tuple(table.shape)}')
    rows = len(table) - extra
    source = _window(rows, grid, source)
    if source == tuple(grid):
        return table
    sides, wanted = ([2 * n - 1 for n in each] for each in (source, grid))
    if min(sides) < 5:
        raise CheckpointError(
            f'a relative position table of {sides[0]} x {sides[1]} offsets is too small to be resized'
        )
    known = [_stretched_offsets(n // 2, m // 2) for n, m in zip(sides, wanted)]
    sought = [np.arange(-(n // 2), n // 2 + 1) for n in wanted]
    maps = table[:rows].double().reshape(*sides, -1).permute(2, 0, 1).numpy()  # [heads, rows, columns]
    resized = np.stack([RectBivariateSpline(*known, values)(*sought) for values in maps], axis=-1)
    new = torch.from_numpy(resized.reshape(wanted[0] * wanted[1], -1)).to(table.dtype)
    return torch.cat([new, table[rows:]])


def _window(rows: int, grid: tuple[int, int], source: tuple[int, int] | None) -> tuple[int, int]:
    """Grid (H, W) of a relative table of (2 H - 1) (2 W - 1) rows."""
    what = f'relative position table of {rows} rows'
    offsets = None if source is None else (2 * source[0] - 1, 2 * source[1] - 1)
    if offsets is not None and offsets[0] * offsets[1] != rows:
        raise CheckpointError(f'{what} is not for a grid of {grid_text(source)}')
    if offsets is None:
        side = round(rows**0.5)
        if side * side != rows or side % 2 == 0:
            raise CheckpointError(f'{what} is not for a square grid; give the grid: {GRID_OPTION}')
        if grid[0] != grid[1] and (2 * grid[0] - 1) * (2 * grid[1] - 1) == rows:
            raise CheckpointError(f'{what} may be for a square grid or {grid_text(grid)}; give the grid: {GRID_OPTION}')
        return (side + 1) // 2, (side + 1) // 2
    return source if source is not None else grid


def grid_text(grid: tuple[int, int] | None) -> str:
    """``14 x 14``."""
    return ' x '.join(map(str, grid or ()))


def _stretched_offsets(count: int, reach: int) -> np.ndarray:
    """``count`` offsets 1, 1 + q, 1 + q + q^2 ... on both sides of 0, q such that the last is about ``reach``."""
    if count == reach:
        return np.arange(-count, count + 1, dtype=float)
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**count) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    positive = np.cumsum(ratio ** np.arange(count))
    return np.concatenate([-positive[::-1], [0.0], positive])
