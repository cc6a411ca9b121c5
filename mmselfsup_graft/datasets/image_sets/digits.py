"""scikit-learn's handwritten digits: real images without a download."""

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS

_SPLITS = ('train', 'test', 'all')
_TEST_PER_CLASS = 40


@DATASETS.register_module()
class Digits(SelfSupDataset):
    """The 1,797 digits of scikit-learn, 8x8 gray, scaled to ``img_size`` and kept in memory.

    The split is fixed: 400 test images, 40 of each class, and 1,397 training images.

    Args:
        split: ``'train'``, ``'test'`` or ``'all'``.
        img_size: Side of the images in pixels, reached by bilinear scaling.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: ``split`` is unknown or ``img_size`` is not positive.
    """

    METAINFO = {'classes': tuple('0123456789')}
    reads_data_root = False

    def __init__(self, split: str = 'train', img_size: int = 16, **kwargs: Any) -> None:
        if split not in _SPLITS:
            raise ConfigError(f"{type(self).__name__}: split is {split!r}, expected 'train', 'test' or 'all'")
        if img_size < 1:
            raise ConfigError(f'{type(self).__name__}: img_size is {img_size!r}, expected a side >= 1 in pixels')
        self.split = split
        self.img_size = img_size
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Scale the images of the split to 0..255 and ``img_size``."""
        images, labels = _scaled_digits(self.img_size)
        chosen = np.flatnonzero(_split_mask(labels, self.split))
        return [{'img': images[number], 'gt_label': int(labels[number])} for number in chosen]


@lru_cache(maxsize=1)
def _scaled_digits(size: int) -> tuple[np.ndarray, np.ndarray]:
    """All images, uint8 [N, size, size], which must not be changed, and their labels.

    Cached: a run has several data sets of the digits, and scikit-learn parses a compressed text file.
    """
    from sklearn.datasets import load_digits  # scikit-learn is slow to import and needed here only

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)  # N, 8, 8
    scaled = np.stack([_resize(image, size) for image in images])
    scaled.flags.writeable = False
    return scaled, digits.target


def _split_mask(labels: np.ndarray, split: str) -> np.ndarray:
    """Return which of the N samples belong to the split, bool of shape (N,)."""
    if split == 'all':
        return np.ones(len(labels), dtype=bool)
    random = np.random.RandomState(0)  # its stream is frozen for all versions of numpy
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[random.permutation(np.flatnonzero(labels == label))[:_TEST_PER_CLASS]] = True
    return is_test if split == 'test' else ~is_test


def _resize(image: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
