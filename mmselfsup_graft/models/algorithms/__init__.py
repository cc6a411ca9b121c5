"""Algorithms: one readable file each."""

from .base import SelfSupAlgorithm
from .mae import MAE
from .mocov3 import MoCoV3
from .simmim import SimMIM

__all__ = ['MAE', 'MoCoV3', 'SelfSupAlgorithm', 'SimMIM']
