"""Backbones for pre-training."""

from .mask_token import MaskedBEiT, MaskedConvNeXt, MaskedResNet, MaskedResNetCIFAR, MaskedViT, MaskToken
from .tec_vit import Targets, TargetViT, TECViT, TokenMLP
from .vit import SelfSupViT

__all__ = [
    'MaskToken',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedViT',
    'SelfSupViT',
    'TECViT',
    'TargetViT',
    'Targets',
    'TokenMLP',
]
