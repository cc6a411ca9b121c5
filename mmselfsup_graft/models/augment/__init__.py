"""Augmentation of whole batches on the device that trains, with numbers drawn per sample elsewhere."""

from .batch import augment_batch
from .dali import DaliDecoder
from .encoded import decode_views

__all__ = ['DaliDecoder', 'augment_batch', 'decode_views']
