"""Calls of ``mmcv.ops`` by name with everything that decides the result as data: for recording and for comparing."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


def run(op: str, settings: Mapping[str, Any], inputs: Tensors) -> Tensors:
    """Outputs of one call and, where inputs come with ``grad``, the gradient of the output, those of all inputs."""
    return CALLS[op](dict(settings), dict(inputs))


def _with_gradients(function: Callable[..., torch.Tensor], inputs: Tensors, constant: tuple[str, ...] = ()) -> Tensors:
    upstream = inputs.pop('grad')
    leaves = {k: v if k in constant else v.clone().requires_grad_() for k, v in inputs.items()}
    output = function(**leaves)
    output.backward(upstream)
    return {'output': output.detach()} | {f'grad_{k}': v.grad for k, v in leaves.items() if k not in constant}


def _nms(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import nms

    dets, kept = nms(inputs['boxes'], inputs['scores'], **settings)
    return {'dets': dets, 'kept': kept}


def _batched_nms(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import batched_nms

    dets, kept = batched_nms(inputs['boxes'], inputs['scores'], inputs['classes'], settings)
    return {'dets': dets, 'kept': kept}


def _soft_nms(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import soft_nms

    dets, kept = soft_nms(inputs['boxes'], inputs['scores'], **settings)
    return {'dets': dets, 'kept': kept}


def _nms_match(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import nms_match

    groups = nms_match(inputs['dets'], **settings)
    sizes = torch.tensor([len(group) for group in groups])
    return {'members': torch.cat(groups) if groups else sizes, 'sizes': sizes}


def _bbox_overlaps(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import bbox_overlaps

    return {'ious': bbox_overlaps(inputs['first'], inputs['second'], **settings)}


def _roi_align(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops.roi_align import roi_align

    options = [settings[key] for key in ('output_size', 'spatial_scale', 'sampling_ratio', 'pool_mode', 'aligned')]
    return _with_gradients(lambda input, rois: roi_align(input, rois, *options), inputs, constant=('rois',))


def _deform_conv(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import deform_conv2d

    options = [settings[key] for key in ('stride', 'padding', 'dilation', 'groups', 'deform_groups')]
    step = settings['im2col_step']
    return _with_gradients(
        lambda input, offset, weight: deform_conv2d(input, offset, weight, *options, False, step), inputs
    )


def _modulated_deform_conv(settings: dict[str, Any], inputs: Tensors) -> Tensors:
    from mmcv.ops import modulated_deform_conv2d

    options = [settings[key] for key in ('stride', 'padding', 'dilation', 'groups', 'deform_groups')]
    return _with_gradients(
        lambda input, offset, mask, weight, bias=None: modulated_deform_conv2d(
            input, offset, mask, weight, bias, *options
        ),
        inputs,
    )


CALLS: dict[str, Callable[[dict[str, Any], Tensors], Tensors]] = {
    'nms': _nms,
    'batched_nms': _batched_nms,
    'soft_nms': _soft_nms,
    'nms_match': _nms_match,
    'bbox_overlaps': _bbox_overlaps,
    'roi_align': _roi_align,
    'deform_conv': _deform_conv,
    'modulated_deform_conv': _modulated_deform_conv,
}
