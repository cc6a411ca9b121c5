"""Regions of detectors under autocast."""

import sys
from typing import Any

import torch
from torch import nn


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
