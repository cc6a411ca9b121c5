"""Transforms that read PIL images and make views of them; packing and the rest come from mmpretrain and torchvision.

Augmentations of our own are in :mod:`mmselfsup_graft.datasets.augment`.
"""

from .building import build_pipeline
from .loading import CorruptImage, LoadImage
from .views import MultiCrop, TwoViews, Views

__all__ = ['CorruptImage', 'LoadImage', 'MultiCrop', 'TwoViews', 'Views', 'build_pipeline']
