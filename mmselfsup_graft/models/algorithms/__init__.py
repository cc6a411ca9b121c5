"""Algorithms: one readable file each."""

from .base import SelfSupAlgorithm
from .classifier import GraftedClassifier
from .mae import MAE
from .mocov3 import MoCoV3
from .simmim import SimMIM

__all__ = [
    'MAE',
    'GraftedClassifier',
    'MoCoV3',
    'SelfSupAlgorithm',
    'SimMIM',
]
