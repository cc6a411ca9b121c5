"""Fused optimizers wherever torch has them."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from mmselfsup_graft.registry import OPTIMIZERS

# a config with one of these keys has chosen the implementation
_CHOICES = ('fused', 'foreach', 'capturable', 'differentiable')

# where torch has fused kernels and this toolbox trains; torch itself checks at the first step, too late for a choice
_DEVICES = ('cpu', 'cuda')


def build_optimizer(cfg: Mapping[str, Any], groups: Iterable[dict]) -> Optimizer:
    """Build an optimizer over parameter groups, fused unless the config decides otherwise.

    torch's AdamW, Adam, SGD and Adagrad are fused if every parameter is a floating-point
    tensor on a device with such kernels. Results are equal up to rounding, nothing is read back, and a loss scaler can
    skip a step on the device.

    Args:
        cfg: ``type`` and options; ``fused=False`` or ``foreach=...`` is respected.
        groups: Parameter groups.
    """
    groups = list(groups)
    options = {'fused': True} if _can_be_fused(cfg, groups) else {}
    return OPTIMIZERS.build({**options, **cfg, 'params': groups})


def _can_be_fused(cfg: Mapping[str, Any], groups: list[dict]) -> bool:
    kind = cfg['type']
    cls = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    if any(choice in cfg for choice in _CHOICES) or not inspect.isclass(cls):
        return False
    if cls.__module__.partition('.')[0] != 'torch' or 'fused' not in inspect.signature(cls).parameters:
        return False
    parameters = [p for group in groups for p in group['params']]
    return all(torch.is_floating_point(p) and p.device.type in _DEVICES for p in parameters)
