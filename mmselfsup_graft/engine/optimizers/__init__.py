"""Optimisers, their wrappers and the layer-wise learning-rate constructor."""

from .autocast import AutocastOptimWrapper
from .lars import LARS
from .layer_wise_lr import LayerWiseLRConstructor

__all__ = ['LARS', 'AutocastOptimWrapper', 'LayerWiseLRConstructor']
