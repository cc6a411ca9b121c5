"""RoIAlign (He et al., Mask R-CNN, 2017): bilinear samples of a region, averaged or their maximum in each bin.

The average is torchvision's operator. The maximum asks the same operator for every sample by itself, as bins of one
sample, and pools these.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 - registers torch.ops.torchvision

from .precision import at_least_float32

_MAX = 0
_NO_SAMPLE = -10000.0  # result of the compiled operator for the maximum of no samples


def roi_align_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    output: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool every region to a grid of H x W bins.

    Args:
        input: [B, C, h, w].
        rois: [N, 5], index of the image and corners.
        output: [N, C, H, W], is filled.
        argmax_y: Of the shape of ``output`` for the maximum: row of the best sample within its bin, is filled.
        argmax_x: Likewise its column.
        aligned_height: H.
        aligned_width: W.
        spatial_scale: Pixels of the map per pixel of the image.
        sampling_ratio: Samples of a bin in each direction; 0 takes one per pixel of the map.
        pool_mode: 0 for the maximum, 1 for the average.
        aligned: Shift by half a pixel, so that pixels are centers and not corners.
    """
    features, regions = at_least_float32(input, rois)
    size = (aligned_height, aligned_width)
    if pool_mode != _MAX:
        output.copy_(torch.ops.torchvision.roi_align(features, regions, spatial_scale, *size, sampling_ratio, aligned))
        return
    output.fill_(_NO_SAMPLE)
    for chosen, grid in _by_grid(regions, size, spatial_scale, sampling_ratio, aligned):
        fine = (size[0] * grid[0], size[1] * grid[1])
        samples = torch.ops.torchvision.roi_align(features, regions[chosen], spatial_scale, *fine, 1, aligned)
        best, place = F.max_pool2d(samples, grid, return_indices=True)  # of [n, C, H * rows, W * columns]
        output[chosen] = best.to(output.dtype)
        argmax_y[chosen] = (place // fine[1] % grid[0]).to(argmax_y.dtype)
        argmax_x[chosen] = (place % fine[1] % grid[1]).to(argmax_x.dtype)


def roi_align_backward(
    grad_output: torch.Tensor,
    rois: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    grad_input: torch.Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of the map to ``grad_input`` [B, C, h, w]; arguments as of :func:`roi_align_forward`.

    On a GPU the sum is not deterministic; with ``torch.use_deterministic_algorithms`` torch raises a RuntimeError.
    """
    grads, regions = at_least_float32(grad_output, rois)
    size = (aligned_height, aligned_width)
    if pool_mode != _MAX:
        grad_input += _backward(grads, regions, spatial_scale, grad_input.shape, sampling_ratio, aligned)
        return
    for chosen, grid in _by_grid(regions, size, spatial_scale, sampling_ratio, aligned):
        rows = torch.arange(size[0], device=rois.device)[:, None] * grid[0] + argmax_y[chosen].long()
        columns = torch.arange(size[1], device=rois.device) * grid[1] + argmax_x[chosen].long()
        place = rows * (size[1] * grid[1]) + columns  # [n, C, H, W]
        fine = grads.new_zeros(*place.shape[:2], size[0] * grid[0], size[1] * grid[1])
        fine.flatten(2).scatter_(2, place.flatten(2), grads[chosen].flatten(2))
        grad_input += _backward(fine, regions[chosen], spatial_scale, grad_input.shape, 1, aligned)


def _backward(
    grads: torch.Tensor, rois: torch.Tensor, scale: float, shape: torch.Size, sampling_ratio: int, aligned: bool
) -> torch.Tensor:
    return torch.ops.torchvision._roi_align_backward(
        grads, rois, scale, *grads.shape[2:], *shape, sampling_ratio, aligned
    )


def _by_grid(
    rois: torch.Tensor, size: tuple[int, int], scale: float, sampling_ratio: int, aligned: bool
) -> Iterator[tuple[torch.Tensor, tuple[int, int]]]:
    """Regions that have equally many samples per bin: their indices, and rows and columns of samples."""
    if sampling_ratio > 0:
        if len(rois):
            yield torch.arange(len(rois), device=rois.device), (sampling_ratio, sampling_ratio)
        return
    corners = rois[:, 1:] * scale - (0.5 if aligned else 0.0)
    extent = (corners[:, 2:] - corners[:, :2]).flip(1)  # [N, 2], height and width
    if not aligned:
        extent = extent.clamp(min=1)
    grids = (extent / extent.new_tensor(size)).ceil().long()
    for grid in grids.unique(dim=0):
        rows, columns = grid.tolist()
        if rows > 0 and columns > 0:
            yield (grids == grid).all(dim=1).nonzero()[:, 0], (rows, columns)
