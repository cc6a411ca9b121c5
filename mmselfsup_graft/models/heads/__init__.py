"""Heads: what turns predictions into losses."""

from .contrastive_head import ContrastiveHead
from .first_fc_head import FirstFCHead
from .simmim_head import SimMIMHead

__all__ = [
    'ContrastiveHead',
    'FirstFCHead',
    'SimMIMHead',
]
