"""Transforms of PIL images; packing and everything else comes from mmpretrain and torchvision."""

from .augment import PILGaussianBlur, PILGaussianNoise, RandomApply
from .building import build_pipeline
from .loading import CorruptImage, LoadImage
from .views import TwoViews, Views

__all__ = [
    'CorruptImage',
    'LoadImage',
    'PILGaussianBlur',
    'PILGaussianNoise',
    'RandomApply',
    'TwoViews',
    'Views',
    'build_pipeline',
]
