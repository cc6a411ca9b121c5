"""Images with content, as arrays and as files."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from mmselfsup_graft.datasets import ImageFolder, seeding
from mmselfsup_graft.datasets.fast import MODES

#: the extra `dali` is too large to be a requirement of the tests: where it is missing there are no cases of it
WITH_DALI = bool(importlib.util.find_spec('nvidia') and importlib.util.find_spec('nvidia.dali'))
#: modes whose batches can be prepared here
USABLE = [mode for mode in MODES if mode != 'dali' or WITH_DALI]

_TV = 'mmpretrain.torchvision/'
CROP = dict(type=f'{_TV}RandomResizedCrop', size=48, scale=(0.2, 1.0), interpolation='bicubic')
FLIP = dict(type=f'{_TV}RandomHorizontalFlip', p=0.5)
JITTER = dict(type=f'{_TV}ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
COLORS = [
    dict(type='RandomApply', transforms=[JITTER], p=0.8),
    dict(type=f'{_TV}RandomGrayscale', p=0.2),
    dict(type='PILGaussianBlur', radius=(0.1, 2.0), p=0.6),
    dict(type=f'{_TV}RandomSolarize', threshold=128, p=0.3),
]
VIEW = [CROP, *COLORS, FLIP]
#: (angle, translation, scale, shear) as torchvision's ``affine`` takes them
AFFINES = [
    (11.5, (2, -3), 0.8, (0.0, 0.0)),
    (-28.0, (0, 0), 1.15, (20.0, -8.0)),
    (170.0, (-9, 30), 1.9, (-5.0, 3.0)),
    (0.0, (4, 0), 1.0, (0.0, 0.0)),
]
#: as a config gives them to ``RandomAffine``
AFFINE_OPTIONS = [
    dict(degrees=20),
    dict(degrees=(-5, 30), translate=(0.15, 0.3), scale=(0.75, 1.15), shear=10, interpolation='bilinear'),
    dict(degrees=0, shear=(-20, 20, -8, 8), fill=77, interpolation='bilinear'),
    dict(degrees=90, shear=(2, 9), center=[3, 30], interpolation='nearest', fill=[77]),
]
MASKED = [dict(type='LoadImage'), CROP, FLIP, dict(type='mmpretrain.PackInputs')]
TWO_VIEWS = [
    dict(type='LoadImage'),
    dict(type='TwoViews', view1=VIEW, view2=[CROP, FLIP]),
    dict(type='mmpretrain.PackInputs'),
]
MULTI_CROP = [
    dict(type='LoadImage'),
    dict(
        type='MultiCrop',
        crops=[dict(num=2, size=48, area=(0.2, 1.0)), dict(num=3, size=24, area=(0.05, 0.2))],
        transforms=[FLIP, *COLORS[:3]],
    ),
    dict(type='mmpretrain.PackInputs'),
]


def photo(number: int = 0, height: int = 100, width: int = 120) -> np.ndarray:
    """A cut of a photograph, uint8 (height, width, 3)."""
    whole = (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea)[number % 3]()
    top, left = 20 + 7 * number, 60 + 11 * number
    return np.ascontiguousarray(whole[top : top + height, left : left + width])


def write_photos(folder: Path, count: int = 6, save: Callable | None = None) -> Path:
    """JPEG files of several sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.fromarray(photo(number, 90 + 5 * number, 140 - 3 * number))
        image.save(folder / f'{number}.jpg', quality=95, subsampling=2)
    return folder


def dataset(folder: Path, pipeline: list, fast: bool | str, **options) -> ImageFolder:
    return ImageFolder(str(folder), pipeline=pipeline, fast=fast, with_label=False, seed=3, **options)


def difference(one, other) -> np.ndarray:
    return np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int))


def seed(value: int) -> None:
    seeding.seed_generators(value)
