"""Models: backbones, necks, heads, losses and the algorithms put together from them."""

from . import libraries  # noqa: F401  (first)
from .algorithms import MAE, GraftedClassifier, JointEmbedding, MoCoV3, MultiTask, SelfSupAlgorithm, SimMIM
from .backbones import MaskedBEiT, MaskedConvNeXt, MaskedResNet, MaskedResNetCIFAR, MaskedViT, SelfSupViT
from .heads import ContrastiveHead, FirstFCHead, NTXentHead, ResLayerExtraNorm, SimMIMHead, VICRegHead
from .momentum import MomentumEncoder
from .necks import MAEDecoder, PixelShuffleNeck, PortableSyncBN

__all__ = [
    'MAE',
    'ContrastiveHead',
    'FirstFCHead',
    'GraftedClassifier',
    'JointEmbedding',
    'MAEDecoder',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedViT',
    'MoCoV3',
    'MomentumEncoder',
    'MultiTask',
    'NTXentHead',
    'PixelShuffleNeck',
    'PortableSyncBN',
    'ResLayerExtraNorm',
    'SelfSupAlgorithm',
    'SelfSupViT',
    'SimMIM',
    'SimMIMHead',
    'VICRegHead',
]
