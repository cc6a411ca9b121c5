"""RoIPool (Girshick, Fast R-CNN, 2015): the maximum of the pixels in each bin.

In plain torch: torchvision's operator rounds the corners of a region to pixels first, mmcv's does not.
"""

import torch

from .precision import at_least_float32


def roi_pool_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    output: torch.Tensor,
    argmax: torch.Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Pool every region to a grid of H x W bins.

    Args:
        input: [B, C, h, w].
        rois: [N, 5], index of the image and corners, which belong to the region.
        output: [N, C, H, W], is filled; bins without a pixel are 0.
        argmax: [N, C, H, W], is filled with the pixel of the maximum, row * w + column; -1 in bins without a pixel.
        pooled_height: H.
        pooled_width: W.
        spatial_scale: Pixels of the map per pixel of the image.
    """
    (regions,) = at_least_float32(rois)
    height, width = input.shape[2:]
    rows = _bins(regions[:, [2, 4]], pooled_height, height, spatial_scale)  # [N, H, most rows of a bin]
    columns = _bins(regions[:, [1, 3]], pooled_width, width, spatial_scale)
    output.zero_()
    argmax.fill_(-1)
    if not rows.shape[2] or not columns.shape[2]:
        return
    for number, image in enumerate(regions[:, 0].long().tolist()):
        y, x = rows[number][:, None, :, None], columns[number][None, :, None, :]  # [H, 1, r, 1], [1, W, 1, c]
        inside = (y >= 0) & (x >= 0)  # [H, W, r, c]
        place = torch.where(inside, y * width + x, 0).flatten(2)  # [H, W, r * c]
        pixels = input[image].flatten(1)[:, place]  # [C, H, W, r * c]
        best = pixels.masked_fill(~inside.flatten(2), -torch.inf).max(dim=-1)
        found = inside.flatten(2).any(dim=-1)  # [H, W]
        output[number] = torch.where(found, best.values, 0)
        where = place.expand_as(pixels).gather(-1, best.indices[..., None])[..., 0]
        argmax[number] = torch.where(found, where, -1).to(argmax.dtype)


def _bins(ends: torch.Tensor, count: int, length: int, scale: float) -> torch.Tensor:
    """Pixels of every bin along one axis.

    Args:
        ends: [N, 2], first and last coordinate of regions.
        count: Bins of a region.
        length: Pixels of the map.
        scale: Pixels of the map per pixel of the image.

    Returns:
        [N, count, P], padded with -1 to the P pixels of the largest bin; all -1 where a region has no extent.
    """
    start = ends[:, :1] * scale
    extent = (ends[:, 1:] + 1) * scale - start
    step = torch.arange(count, device=ends.device, dtype=ends.dtype)
    low = (step * (extent / count) + start).floor().clamp(0, length).long()  # [N, count]
    high = ((step + 1) * (extent / count) + start).ceil().clamp(0, length).long()
    high = torch.where(extent > 0, high, low)
    most = int((high - low).amax()) if ends.numel() else 0
    pixels = low[..., None] + torch.arange(max(most, 0), device=ends.device)
    return torch.where(pixels < high[..., None], pixels, -1)


def roi_pool_backward(
    grad_output: torch.Tensor,
    rois: torch.Tensor,
    argmax: torch.Tensor,
    grad_input: torch.Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient of every bin to its pixel in ``grad_input`` [B, C, h, w]; arguments as of the forward pass."""
    found = argmax >= 0
    image = rois[:, 0].long()[:, None, None, None].expand_as(argmax)
    channel = torch.arange(grad_input.shape[1], device=argmax.device)[None, :, None, None].expand_as(argmax)
    place = (image[found], channel[found], argmax[found].long())
    grad_input.flatten(2).index_put_(place, grad_output[found].to(grad_input.dtype), accumulate=True)
