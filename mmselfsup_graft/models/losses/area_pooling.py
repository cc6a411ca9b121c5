"""Features of one grid over an image, averaged to another."""

import torch

from .pixels import at_least_float32


def area_weights(source: tuple[int, int], target: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """Weights of the mean over the area that each cell of another grid covers.

    Both grids tile the same image. Entry (m, l) is the share of the area of cell m of the target grid that lies in cell
    l of the source grid. Weights of a cell sum to 1, for grids of any two sizes: a coarser grid of whole multiples is
    average pooling, a finer one repeats cells, others take cells in part. ``weights @ x`` pools features x [L, C];
    shares that sum to 1 over cells l sum to 1 over cells m as ``L / M * weights @ shares``.

    Args:
        source: Rows and columns of the grid that is given, L cells.
        target: Rows and columns of the grid that is wanted, M cells.
        like: Tensor of whose device and type the weights are, float32 at least.

    Returns:
        [M, L], cells of both grids row by row.
    """
    rows, columns = (_overlap(old, new, like) for old, new in zip(source, target))
    return torch.kron(rows, columns)


def _overlap(source: int, target: int, like: torch.Tensor) -> torch.Tensor:
    """The same for a line, [target, source]; in units of ``1 / (source * target)`` all borders are whole numbers."""
    new = torch.arange(target, device=like.device)[:, None] * source
    old = torch.arange(source, device=like.device) * target
    shared = torch.minimum(new + source, old + target) - torch.maximum(new, old)
    return shared.clamp(min=0).to(at_least_float32(like).dtype) / source
