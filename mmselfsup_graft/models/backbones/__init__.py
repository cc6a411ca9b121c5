"""Backbones for pre-training."""

from .mask_token import MaskedBEiT, MaskedConvNeXt, MaskedResNet, MaskedResNetCIFAR, MaskedViT, MaskToken
from .vit import SelfSupViT

__all__ = [
    'MaskToken',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedViT',
    'SelfSupViT',
]
