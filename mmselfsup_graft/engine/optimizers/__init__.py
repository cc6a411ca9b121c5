"""Optimizers, their wrappers and the layer-wise learning-rate constructor."""

from .autocast import AutocastOptimWrapper
from .lars import LARS
from .layer_wise_lr import LayerWiseLRConstructor
from .wrapper import DeviceOptimWrapper

__all__ = ['LARS', 'AutocastOptimWrapper', 'DeviceOptimWrapper', 'LayerWiseLRConstructor']
