"""Position tables: fixed 2-D sine-cosine ones, and the resizing of absolute and relative ones."""

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import CheckpointError, ConfigError


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
        ConfigError: If the width is no multiple of 4 or the layout unknown.
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


def resize_position_table(table: torch.Tensor, grid: tuple[int, int], extra: int = 1) -> torch.Tensor:
    """Resample a position table to another patch grid, bicubically, as MAE's fine-tuning does.

    Args:
        table: [1, extra + H' * W', D] with a square source grid (H' = W').
        grid: Target grid (H, W).
        extra: Leading entries (class token) that are kept as they are.

    Returns:
        Table of shape [1, extra + H * W, D] in the dtype of the input.

    Raises:
        CheckpointError: If the source grid is not square, or the table has not three dimensions.
    """
    if table.ndim != 3 or table.shape[1] <= extra:
        raise CheckpointError(f'a position table has shape [1, positions, width], got {tuple(table.shape)}')
    head, patches = table[:, :extra], table[:, extra:]
    side = int(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise CheckpointError(f'position table with {patches.shape[1]} patches is not square; it cannot be resized')
    if (side, side) == tuple(grid):
        return table
    work = patches.float() if patches.dtype in (torch.float16, torch.bfloat16) else patches
    image = work.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # [1, D, H', W']
    image = F.interpolate(image, size=tuple(grid), mode='bicubic', align_corners=False)
    resized = image.permute(0, 2, 3, 1).flatten(1, 2)  # [1, H * W, D]
    return torch.cat([head, resized.to(table.dtype)], dim=1)


def resize_relative_table(table: torch.Tensor, grid: tuple[int, int], extra: int) -> torch.Tensor:
    """Resample a table of relative position biases to another grid of patches (or another window).

    As in SimMIM's release: the known offsets are placed at the sums of a geometric progression, dense around offset 0,
    such that they span the new range, and a bicubic spline through them is read off at whole offsets.

    Args:
        table: [(2 H' - 1) (2 W' - 1) + extra, heads] with a square source grid (H' = W').
        grid: Target grid (H, W), square.
        extra: Rows at the end (of the class token) that are kept as they are.

    Returns:
        Table of [(2 H - 1) (2 W - 1) + extra, heads] in the dtype of the input.

    Raises:
        CheckpointError: If the source or target grid is not square, the source smaller than 3 x 3, or the table has not
            two dimensions.
    """
    from scipy.interpolate import RectBivariateSpline  # slow to import

    if table.ndim != 2 or len(table) <= extra:
        raise CheckpointError(f'a relative position table has shape [offsets, heads], got {tuple(table.shape)}')
    patches = len(table) - extra
    side, wanted = round(patches**0.5), 2 * grid[0] - 1
    if side * side != patches or side % 2 == 0 or grid[0] != grid[1]:
        raise CheckpointError(
            f'relative position table of {patches} rows to a grid of {grid[0]} x {grid[1]}: both must be square'
        )
    if side == wanted:
        return table
    if side < 5:
        raise CheckpointError(f'a relative position table of {side} x {side} offsets is too small to be resized')
    known = _stretched_offsets(side // 2, wanted // 2)
    sought = np.arange(-(wanted // 2), wanted // 2 + 1)
    maps = table[:patches].double().reshape(side, side, -1).permute(2, 0, 1).numpy()  # [heads, rows, columns]
    resized = np.stack([RectBivariateSpline(known, known, values)(sought, sought) for values in maps], axis=-1)
    rows = torch.from_numpy(resized.reshape(wanted * wanted, -1)).to(table.dtype)
    return torch.cat([rows, table[patches:]])


def _stretched_offsets(count: int, reach: int) -> np.ndarray:
    """``count`` offsets 1, 1 + q, 1 + q + q^2 ... on both sides of 0, q such that the last is about ``reach``."""
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**count) / (1 - ratio) > reach:
            high = ratio
        else:
            low = ratio
    positive = np.cumsum(ratio ** np.arange(count))
    return np.concatenate([-positive[::-1], [0.0], positive])
