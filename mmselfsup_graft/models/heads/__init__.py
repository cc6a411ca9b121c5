"""Heads: what turns predictions into losses."""

from .contrastive_head import ContrastiveHead
from .simmim_head import SimMIMHead

__all__ = ['ContrastiveHead', 'SimMIMHead']
