"""Models: backbones, necks, heads, losses and the algorithms composed of them."""

from mmselfsup_graft.libraries import (
    mmpretrain_models,  # noqa: F401  (first)
    weight_files,  # noqa: F401  (before anything can read a file)
)

from . import algorithms
from .algorithms import *  # noqa: F403  (one list of names, theirs)
from .backbones import (
    MaskedBEiT,
    MaskedConvNeXt,
    MaskedResNet,
    MaskedResNetCIFAR,
    MaskedSwin,
    MaskedViT,
    SelfSupBEiT,
    SelfSupResNet,
    SelfSupViT,
    TargetViT,
    TECViT,
)
from .data_preprocessor import ClsDataPreprocessor, SelfSupDataPreprocessor
from .heads import (
    A2MIMHead,
    ContrastiveHead,
    FirstFCHead,
    NTXentHead,
    PrototypeHead,
    ResLayerExtraNorm,
    SimMIMHead,
    TECHead,
    VICRegHead,
)
from .momentum import MomentumEncoder
from .necks import MAEDecoder, PixelShuffleNeck, PortableSyncBN, TECDecoder, TECMapNeck

__all__ = [
    'A2MIMHead',
    'ClsDataPreprocessor',
    'ContrastiveHead',
    'FirstFCHead',
    'MAEDecoder',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedSwin',
    'MaskedViT',
    'MomentumEncoder',
    'NTXentHead',
    'PixelShuffleNeck',
    'PortableSyncBN',
    'PrototypeHead',
    'ResLayerExtraNorm',
    'SelfSupBEiT',
    'SelfSupDataPreprocessor',
    'SelfSupResNet',
    'SelfSupViT',
    'SimMIMHead',
    'TECDecoder',
    'TECHead',
    'TECMapNeck',
    'TECViT',
    'TargetViT',
    'VICRegHead',
]
__all__ += algorithms.__all__
