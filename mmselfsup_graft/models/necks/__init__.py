"""Necks: what turns encoder tokens into predictions; plus the batch norm that works everywhere."""

from .mae_decoder import MAEDecoder
from .sync_bn import PortableSyncBN

__all__ = ['MAEDecoder', 'PortableSyncBN']
