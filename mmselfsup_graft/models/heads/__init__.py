"""Heads: what turns predictions into losses."""

from .a2mim_head import A2MIMHead
from .contrastive_head import ContrastiveHead
from .first_fc_head import FirstFCHead
from .joint_embedding_heads import NTXentHead, VICRegHead
from .prototype_head import PrototypeHead
from .res_layer_extra_norm import ResLayerExtraNorm
from .simmim_head import SimMIMHead
from .tec_head import TECHead

__all__ = [
    'A2MIMHead',
    'ContrastiveHead',
    'FirstFCHead',
    'NTXentHead',
    'PrototypeHead',
    'ResLayerExtraNorm',
    'SimMIMHead',
    'TECHead',
    'VICRegHead',
]
