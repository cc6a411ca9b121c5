"""Necks: what turns encoder tokens into predictions; plus the batch norm that works everywhere."""

from .mae_decoder import MAEDecoder
from .pixel_shuffle import PixelShuffleNeck
from .sync_bn import PortableSyncBN

__all__ = ['MAEDecoder', 'PixelShuffleNeck', 'PortableSyncBN']
