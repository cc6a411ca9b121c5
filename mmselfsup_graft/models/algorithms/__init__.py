"""Algorithms: one readable file each."""

from .a2mim import A2MIM
from .base import SelfSupAlgorithm
from .byol import BYOL
from .classifier import GraftedClassifier
from .joint_embedding import JointEmbedding
from .mae import MAE
from .masked_tec import MaskedTEC
from .moco import MoCo
from .mocov3 import MoCoV3
from .multi_task import MultiTask
from .simmim import SimMIM
from .swav import SwAV
from .tec import TEC

__all__ = [
    'A2MIM',
    'BYOL',
    'MAE',
    'TEC',
    'GraftedClassifier',
    'JointEmbedding',
    'MaskedTEC',
    'MoCo',
    'MoCoV3',
    'MultiTask',
    'SelfSupAlgorithm',
    'SimMIM',
    'SwAV',
]
