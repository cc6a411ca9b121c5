"""Backbones for pre-training."""

from .beit import SelfSupBEiT
from .mask_token import MaskedBEiT, MaskedConvNeXt, MaskedResNet, MaskedResNetCIFAR, MaskedSwin, MaskedViT, MaskToken
from .resnet import SelfSupResNet
from .tec_vit import Targets, TargetViT, TECViT, TokenMLP
from .vit import SelfSupViT

__all__ = [
    'MaskToken',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedSwin',
    'MaskedViT',
    'SelfSupBEiT',
    'SelfSupResNet',
    'SelfSupViT',
    'TECViT',
    'TargetViT',
    'Targets',
    'TokenMLP',
]
