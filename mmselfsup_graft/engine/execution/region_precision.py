"""What stays precise under autocast: regions of detectors, and matrix products in float32."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mmselfsup_graft.errors import ConfigError

_PRECISIONS = ('highest', 'high', 'medium')
_HALF = ('AutocastOptimWrapper', 'AmpOptimWrapper')


def keep_regions_precise(model: nn.Module) -> int:
    """Let the RoI extractors of mmdet work in float32 where autocast made their features half precision.

    They round regions to the type of the features: in bfloat16, whose numbers from 512 to 1024 are 4 apart, a region
    would move by up to 2 pixels, in float16 by up to a quarter. The layers behind them autocast the result again.

    Args:
        model: A detector; others have no such part.

    Returns:
        How many extractors there are.
    """
    library = sys.modules.get('mmdet.models.roi_heads.roi_extractors')
    if library is None:
        return 0
    extractors = [module for module in model.modules() if isinstance(module, library.BaseRoIExtractor)]
    for extractor in extractors:
        extractor.register_forward_pre_hook(_widen, with_kwargs=True)
    return len(extractors)


def _widen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Features, the first argument or ``feats``, in float32 at least."""
    if args:
        return (_wide(args[0]), *args[1:]), kwargs
    return args, {**kwargs, 'feats': _wide(kwargs['feats'])}


def _wide(features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(level.to(torch.promote_types(level.dtype, torch.float32)) for level in features)


def matmul_precision(env_cfg: Mapping[str, Any], optim_wrapper: Mapping[str, Any]) -> str:
    """Precision of the matrix products that a run leaves in float32, for ``torch.set_float32_matmul_precision``.

    ``env_cfg.float32_matmul_precision`` decides. Without it a run on a GPU whose forward pass is autocast to a half
    precision takes ``high`` (TF32) for the rest, which still has more digits than the half; all others take torch's
    own, ``highest``. What is measured and tested to many digits switches TF32 off by itself
    (``models/eval_mode.full_precision_eval_mode``).

    Raises:
        ConfigError: For another word than torch knows.
    """
    wanted = env_cfg.get('float32_matmul_precision')
    if wanted is not None:
        if wanted not in _PRECISIONS:
            raise ConfigError(f'env_cfg.float32_matmul_precision is {wanted!r}; choose from {", ".join(_PRECISIONS)}')
        return wanted
    kind = str(optim_wrapper.get('type', '')).rpartition('.')[2]
    in_half = kind in _HALF and optim_wrapper.get('dtype') != 'float32'
    return 'high' if in_half and torch.cuda.is_available() else 'highest'
