"""Backbones for pre-training."""

from .vit import SelfSupViT

__all__ = ['SelfSupViT']
