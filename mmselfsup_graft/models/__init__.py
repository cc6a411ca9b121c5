"""Models: backbones, necks, heads, losses and the algorithms put together from them."""

from .algorithms import MAE, MoCoV3, SelfSupAlgorithm
from .backbones import SelfSupViT
from .heads import ContrastiveHead
from .momentum import MomentumEncoder
from .necks import MAEDecoder, PortableSyncBN

__all__ = [
    'MAE',
    'ContrastiveHead',
    'MAEDecoder',
    'MoCoV3',
    'MomentumEncoder',
    'PortableSyncBN',
    'SelfSupAlgorithm',
    'SelfSupViT',
]
