"""Fixed 2-D sine-cosine position tables and their resizing."""

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
        CheckpointError: If the source grid is not square.
    """
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
