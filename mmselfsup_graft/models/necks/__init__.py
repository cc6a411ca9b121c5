"""Necks: what turns encoder tokens into predictions; plus the batch norm that works everywhere."""

from .mae_decoder import MAEDecoder
from .pixel_shuffle import PixelShuffleNeck
from .sync_bn import PortableSyncBN
from .tec_decoder import ConditionalAdaptor, TECDecoder, TECPrediction
from .tec_map import TECMapNeck

__all__ = [
    'ConditionalAdaptor',
    'MAEDecoder',
    'PixelShuffleNeck',
    'PortableSyncBN',
    'TECDecoder',
    'TECMapNeck',
    'TECPrediction',
]
