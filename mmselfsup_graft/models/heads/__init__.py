"""Heads: what turns predictions into losses."""

from .contrastive_head import ContrastiveHead

__all__ = ['ContrastiveHead']
