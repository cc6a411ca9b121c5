"""Models: backbones, necks, heads, losses and the algorithms put together from them."""

from . import libraries  # noqa: F401  (first)
from .algorithms import MAE, TEC, GraftedClassifier, JointEmbedding, MoCoV3, MultiTask, SelfSupAlgorithm, SimMIM
from .backbones import (
    MaskedBEiT,
    MaskedConvNeXt,
    MaskedResNet,
    MaskedResNetCIFAR,
    MaskedViT,
    SelfSupViT,
    TargetViT,
    TECViT,
)
from .heads import ContrastiveHead, FirstFCHead, NTXentHead, ResLayerExtraNorm, SimMIMHead, TECHead, VICRegHead
from .momentum import MomentumEncoder
from .necks import MAEDecoder, PixelShuffleNeck, PortableSyncBN, TECDecoder

__all__ = [
    'MAE',
    'TEC',
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
    'TECDecoder',
    'TECHead',
    'TECViT',
    'TargetViT',
    'VICRegHead',
]
