"""Models: backbones, necks, heads, losses and the algorithms composed of them."""

from mmselfsup_graft.libraries import (
    mmpretrain_models,  # noqa: F401  (first)
    weight_files,  # noqa: F401  (before anything can read a file)
)

from .algorithms import A2MIM, MAE, TEC, GraftedClassifier, JointEmbedding, MoCoV3, MultiTask, SelfSupAlgorithm, SimMIM
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
    ResLayerExtraNorm,
    SimMIMHead,
    TECHead,
    VICRegHead,
)
from .momentum import MomentumEncoder
from .necks import MAEDecoder, PixelShuffleNeck, PortableSyncBN, TECDecoder

__all__ = [
    'A2MIM',
    'MAE',
    'TEC',
    'A2MIMHead',
    'ClsDataPreprocessor',
    'ContrastiveHead',
    'FirstFCHead',
    'GraftedClassifier',
    'JointEmbedding',
    'MAEDecoder',
    'MaskedBEiT',
    'MaskedConvNeXt',
    'MaskedResNet',
    'MaskedResNetCIFAR',
    'MaskedSwin',
    'MaskedViT',
    'MoCoV3',
    'MomentumEncoder',
    'MultiTask',
    'NTXentHead',
    'PixelShuffleNeck',
    'PortableSyncBN',
    'ResLayerExtraNorm',
    'SelfSupAlgorithm',
    'SelfSupBEiT',
    'SelfSupDataPreprocessor',
    'SelfSupResNet',
    'SelfSupViT',
    'SimMIM',
    'SimMIMHead',
    'TECDecoder',
    'TECHead',
    'TECViT',
    'TargetViT',
    'VICRegHead',
]
