"""Algorithms: one readable file each."""

from .base import SelfSupAlgorithm
from .classifier import GraftedClassifier
from .joint_embedding import JointEmbedding
from .mae import MAE
from .mocov3 import MoCoV3
from .multi_task import MultiTask
from .simmim import SimMIM
from .tec import TEC

__all__ = [
    'MAE',
    'TEC',
    'GraftedClassifier',
    'JointEmbedding',
    'MoCoV3',
    'MultiTask',
    'SelfSupAlgorithm',
    'SimMIM',
]
