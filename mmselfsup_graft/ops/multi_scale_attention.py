"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021), by the torch code that mmcv has for CPUs."""

import torch

from .precision import at_least_float32


def ms_deform_attn_forward(
    value: torch.Tensor,
    value_spatial_shapes: torch.Tensor,
    value_level_start_index: torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    im2col_step: int,
) -> torch.Tensor:
    """Weighted sum of bilinear samples.

    Args:
        value: [B, K, heads, D], all levels one after the other.
        value_spatial_shapes: [levels, 2], height and width of each.
        value_level_start_index: [levels], follows from the shapes.
        sampling_locations: [B, Q, heads, levels, points, 2], x and y from 0 to 1.
        attention_weights: [B, Q, heads, levels, points].
        im2col_step: Of the compiled operator.

    Returns:
        [B, Q, heads * D], of the type of ``value``.
    """
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    wide, locations, weights = at_least_float32(value, sampling_locations, attention_weights)
    return multi_scale_deformable_attn_pytorch(wide, value_spatial_shapes, locations, weights).to(value.dtype)


def ms_deform_attn_backward(
    value: torch.Tensor,
    value_spatial_shapes: torch.Tensor,
    value_level_start_index: torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    grad_output: torch.Tensor,
    grad_value: torch.Tensor,
    grad_sampling_loc: torch.Tensor,
    grad_attn_weight: torch.Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients to ``grad_value``, ``grad_sampling_loc`` and ``grad_attn_weight``; computes the sum again."""
    leaves = [tensor.detach().requires_grad_() for tensor in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            leaves[0], value_spatial_shapes, value_level_start_index, leaves[1], leaves[2], im2col_step
        )
    grads = torch.autograd.grad(output, leaves, grad_output)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target += grad
