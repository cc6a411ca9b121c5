"""Backbones for pre-training."""

from .beit import SelfSupBEiT
from .mask_token import MaskedBEiT, MaskedConvNeXt, MaskedResNet, MaskedResNetCIFAR, MaskedSwin, MaskedViT, MaskToken
from .resnet import SelfSupResNet
from .tec_vit import Targets, TargetViT, TECViT, TokenMLP
from .timm_backbone import TimmBackbone
from .timm_mask import MaskedTimmBackbone
from .vit import SelfSupViT

__all__ = [
    'MaskToken',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedSwin',
    'MaskedTimmBackbone',
    'MaskedViT',
    'SelfSupBEiT',
    'SelfSupResNet',
    'SelfSupViT',
    'TECViT',
    'TargetViT',
    'Targets',
    'TimmBackbone',
    'TokenMLP',
]
