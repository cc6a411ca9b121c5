"""Deformable convolutions (Dai et al., 2017) and modulated ones (Zhu et al., 2019), by torchvision's operator.

Both libraries order the channels of offsets and masks alike: by group, row and column of the kernel; offsets y, then x.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision

from .precision import at_least_float32


class Geometry(NamedTuple):
    """Numbers of a convolution in the order of torchvision's operator."""

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    offset_groups: int


def _geometry(sizes: Mapping[str, int]) -> Geometry:
    """Geometry of a deformable convolution from mmcv's keywords."""
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
    return Geometry(*(sizes[name] for name in names))


def _modulated_geometry(sizes: Mapping[str, int]) -> Geometry:
    """Geometry of a modulated deformable convolution from mmcv's keywords."""
    names = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')
    return Geometry(*(sizes[name] for name in names))


class Gradients(NamedTuple):
    """Gradients in the order of torchvision's operator."""

    input: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor
    mask: torch.Tensor
    bias: torch.Tensor


def _operands(
    input: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> list[torch.Tensor]:
    """Operands of torchvision's operator, which needs a tensor also for missing operands."""
    mask = input.new_zeros(len(input), 1) if mask is None else mask
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return at_least_float32(input, weight, offset, mask, bias)


def _backward(
    grad_output: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor | None,
    geometry: Geometry,
) -> Gradients:
    operands = _operands(input, weight, offset, mask, None)
    found = torch.ops.torchvision._deform_conv2d_backward(
        grad_output.to(operands[0].dtype), *operands, *geometry, mask is not None
    )
    grads = Gradients(*found)
    grads.offset.masked_fill_(_one_outside(operands[2], weight.shape[2:], geometry), 0)
    return grads


def _one_outside(offset: torch.Tensor, kernel: torch.Size, geometry: Geometry) -> torch.Tensor:
    """Where a coordinate is exactly -1, as in the padding of a convolution whose offsets are still zero.

    The value has a kink there; torchvision's operator takes the slope of the inner side, mmcv's takes zero.

    Args:
        offset: [B, offset_groups * kH * kW * 2, H, W].
        kernel: kH and kW.
        geometry: Of the convolution.

    Returns:
        Of the shape of ``offset``.
    """
    height, width = offset.shape[2:]
    device = offset.device
    taps_y = torch.arange(kernel[0], device=device) * geometry.dilation_h - geometry.pad_h
    taps_x = torch.arange(kernel[1], device=device) * geometry.dilation_w - geometry.pad_w
    y = taps_y[:, None] + torch.arange(height, device=device) * geometry.stride_h  # [kH, H]
    x = taps_x[:, None] + torch.arange(width, device=device) * geometry.stride_w  # [kW, W]
    outside = torch.empty(
        len(offset), geometry.offset_groups, *kernel, 2, height, width, dtype=torch.bool, device=device
    )
    shift = offset.view_as(outside)
    outside[..., 0, :, :] = shift[..., 0, :, :] == -1 - y[:, None, :, None]
    outside[..., 1, :, :] = shift[..., 1, :, :] == -1 - x[None, :, None, :]
    return outside.view_as(offset)


def deform_conv_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    output: torch.Tensor,
    columns: torch.Tensor,
    ones: torch.Tensor,
    **sizes: int,
) -> None:
    """Convolve at displaced positions.

    Args:
        input: [B, C, h, w].
        weight: [D, C / group, kH, kW].
        offset: [B, deformable_group * kH * kW * 2, H, W].
        output: [B, D, H, W], is filled.
        columns: Working memory of the compiled operator.
        ones: Likewise.
        sizes: mmcv's keywords: stride (dH, dW), padding (padH, padW), dilation (dilationH, dilationW), groups of the
            convolution (group), groups of channels that share offsets (deformable_group). The size of the kernel is
            that of ``weight``, and torchvision chooses the number of images to unfold at once (im2col_step).
    """
    operands = _operands(input, weight, offset, None, None)
    output.copy_(torch.ops.torchvision.deform_conv2d(*operands, *_geometry(sizes), False))


def deform_conv_backward_input(
    input: torch.Tensor,
    offset: torch.Tensor,
    grad_output: torch.Tensor,
    grad_input: torch.Tensor,
    grad_offset: torch.Tensor,
    weight: torch.Tensor,
    columns: torch.Tensor,
    **sizes: int,
) -> None:
    """Add the gradients of input and offsets to ``grad_input`` and ``grad_offset``.

    The gradient of the weight, which comes with them, is left in ``columns``: mmcv passes the same tensor to
    :func:`deform_conv_backward_parameters` next. Other arguments as of :func:`deform_conv_forward`.
    """
    grads = _backward(grad_output, input, weight, offset, None, _geometry(sizes))
    grad_input += grads.input
    grad_offset += grads.offset
    columns.resize_(weight.shape).copy_(grads.weight)


def deform_conv_backward_parameters(
    input: torch.Tensor,
    offset: torch.Tensor,
    grad_output: torch.Tensor,
    grad_weight: torch.Tensor,
    columns: torch.Tensor,
    ones: torch.Tensor,
    *,
    scale: float,
    **sizes: int,
) -> None:
    """Add the gradient of the weight, times ``scale``, to ``grad_weight``.

    It is taken from ``columns`` where :func:`deform_conv_backward_input` left it there, and that is emptied. Other
    arguments as of :func:`deform_conv_forward`.
    """
    if columns.shape == grad_weight.shape:
        grad_weight.add_(columns, alpha=scale)
        columns.resize_(0)
        return
    weight = torch.zeros_like(grad_weight)  # its own gradient does not depend on it
    grads = _backward(grad_output, input, weight, offset, None, _geometry(sizes))
    grad_weight.add_(grads.weight.to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ones: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    output: torch.Tensor,
    columns: torch.Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Convolve at displaced positions with weighted samples.

    Args:
        input: [B, C, h, w].
        weight: [D, C / group, kernel_h, kernel_w].
        bias: [D], or nothing.
        ones: Working memory of the compiled operator.
        offset: [B, deformable_group * kernel_h * kernel_w * 2, H, W].
        mask: [B, deformable_group * kernel_h * kernel_w, H, W], weights of the samples.
        output: [B, D, H, W], is filled.
        columns: Working memory of the compiled operator.
        with_bias: Whether there is a bias.
        sizes: mmcv's keywords: stride (stride_h, stride_w), padding (pad_h, pad_w), dilation (dilation_h, dilation_w),
            groups of the convolution (group), groups of channels that share offsets and masks (deformable_group).
    """
    operands = _operands(input, weight, offset, mask, bias if with_bias else None)
    output.copy_(torch.ops.torchvision.deform_conv2d(*operands, *_modulated_geometry(sizes), True))


def modulated_deform_conv_backward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    ones: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    columns: torch.Tensor,
    grad_input: torch.Tensor,
    grad_weight: torch.Tensor,
    grad_bias: torch.Tensor,
    grad_offset: torch.Tensor,
    grad_mask: torch.Tensor,
    grad_output: torch.Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Add all gradients to the ``grad_*`` tensors; other arguments as of :func:`modulated_deform_conv_forward`."""
    grads = _backward(grad_output, input, weight, offset, mask, _modulated_geometry(sizes))
    grad_input += grads.input
    grad_weight += grads.weight
    grad_offset += grads.offset
    grad_mask += grads.mask
    if with_bias:
        grad_bias += grads.bias
