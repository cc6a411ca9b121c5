"""Datasets whose samples depend on (seed, epoch, index) only, their transforms and their sampler."""

from . import libraries  # noqa: F401  (first)
from .base import SelfSupDataset
from .cifar import CIFAR
from .digits import Digits
from .fashion_mnist import FashionMNIST
from .image_folder import ImageFolder
from .image_list import ImageList, parse_image_list
from .imagenet import ImageNet
from .part import Part
from .raw_shards import RawShards
from .sample_photos import SamplePhotos
from .samplers import RepeatedAugSampler, SeededSampler
from .shard_sampler import ShardSampler
from .splits import balanced_indices, balanced_subset, dataset_entries, write_image_list
from .tar_shards import TarShards
from .transforms import LoadImage, PILGaussianBlur, PILGaussianNoise, RandomApply, TwoViews, Views

__all__ = [
    'CIFAR',
    'Digits',
    'FashionMNIST',
    'ImageFolder',
    'ImageList',
    'ImageNet',
    'LoadImage',
    'PILGaussianBlur',
    'PILGaussianNoise',
    'Part',
    'RandomApply',
    'RawShards',
    'RepeatedAugSampler',
    'SamplePhotos',
    'SeededSampler',
    'SelfSupDataset',
    'ShardSampler',
    'TarShards',
    'TwoViews',
    'Views',
    'balanced_indices',
    'balanced_subset',
    'dataset_entries',
    'parse_image_list',
    'write_image_list',
]
