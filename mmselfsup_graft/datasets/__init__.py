"""Datasets whose samples depend on (seed, epoch, index) only, their transforms and their sampler."""

from mmselfsup_graft.libraries import mmpretrain_datasets as libraries  # noqa: F401  (first)

from .augment import PILGaussianBlur, PILGaussianNoise, RandomApply
from .image_sets.cifar import CIFAR
from .image_sets.digits import Digits
from .image_sets.fashion_mnist import FashionMNIST
from .image_sets.image_folder import ImageFolder
from .image_sets.image_list import ImageList, parse_image_list
from .image_sets.imagenet import ImageNet
from .image_sets.sample_photos import SamplePhotos
from .samplers.seeded import RepeatedAugSampler, SeededSampler
from .samplers.shard_sampler import ShardSampler
from .self_sup_dataset import SelfSupDataset
from .shards.raw_shards import RawShards
from .shards.tar_shards import TarShards
from .splits import balanced_indices, balanced_subset, dataset_entries, write_image_list
from .subset import Part
from .transforms import LoadImage, MultiCrop, TwoViews, Views

__all__ = [
    'CIFAR',
    'Digits',
    'FashionMNIST',
    'ImageFolder',
    'ImageList',
    'ImageNet',
    'LoadImage',
    'MultiCrop',
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
