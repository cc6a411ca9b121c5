"""Content of the replacement of ``mmcv._ext``: functions by the names and arguments that mmcv calls."""

from collections.abc import Callable
from typing import Any, NoReturn

import torchvision

from mmselfsup_graft.errors import MissingOperatorError

from . import boxes, deform_conv, focal_loss, multi_scale_attention, roi_align, roi_pool


def get_compiler_version() -> str:
    """What mmcv reports as its compiler."""
    return f'none, operators of torchvision {torchvision.__version__}'


SERVED: dict[str, Callable] = {
    'get_compiler_version': get_compiler_version,
    'get_compiling_cuda_version': get_compiler_version,
    'nms': boxes.nms,
    'softnms': boxes.softnms,
    'nms_match': boxes.nms_match,
    'bbox_overlaps': boxes.bbox_overlaps,
    'roi_align_forward': roi_align.roi_align_forward,
    'roi_align_backward': roi_align.roi_align_backward,
    'roi_pool_forward': roi_pool.roi_pool_forward,
    'roi_pool_backward': roi_pool.roi_pool_backward,
    'deform_conv_forward': deform_conv.deform_conv_forward,
    'deform_conv_backward_input': deform_conv.deform_conv_backward_input,
    'deform_conv_backward_parameters': deform_conv.deform_conv_backward_parameters,
    'modulated_deform_conv_forward': deform_conv.modulated_deform_conv_forward,
    'modulated_deform_conv_backward': deform_conv.modulated_deform_conv_backward,
    'sigmoid_focal_loss_forward': focal_loss.sigmoid_focal_loss_forward,
    'sigmoid_focal_loss_backward': focal_loss.sigmoid_focal_loss_backward,
    'softmax_focal_loss_forward': focal_loss.softmax_focal_loss_forward,
    'softmax_focal_loss_backward': focal_loss.softmax_focal_loss_backward,
    'ms_deform_attn_forward': multi_scale_attention.ms_deform_attn_forward,
    'ms_deform_attn_backward': multi_scale_attention.ms_deform_attn_backward,
}


def missing_operator(name: str) -> Callable:
    """An operator that only the compiled extension has; mmcv looks for all of them when it is imported.

    Returns:
        A function that raises :class:`MissingOperatorError` when it is called.

    Raises:
        AttributeError: For names with an underscore in front, none of which is an operator.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise MissingOperatorError(
            f'the operator {name} of mmcv is only in its compiled extension, which is not in use here. Build it once, '
            'with a torch older than 2.14: bash tools/install.sh --transfer --compiled-ops installs both '
            '(python tools/check_env.py prints the command for any other installation)'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator
