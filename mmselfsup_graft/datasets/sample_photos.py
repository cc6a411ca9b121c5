"""Two photographs that come with scikit-learn, cut into windows."""

from typing import Any

import numpy as np
from PIL import Image

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS

from .base import SelfSupDataset

PHOTOS = {'train': 'china.jpg', 'test': 'flower.jpg'}


def sample_photo(name: str, height: int, channels: int) -> np.ndarray:
    """One of scikit-learn's sample photographs.

    Args:
        name: ``china.jpg`` or ``flower.jpg``.
        height: Height in pixels, reached by bicubic scaling; the width follows.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8 of shape (H, W) or (H, W, 3).
    """
    from sklearn.datasets import load_sample_image  # scikit-learn is slow to import and needed here only

    photo = Image.fromarray(load_sample_image(name)).convert('L' if channels == 1 else 'RGB')
    return np.asarray(photo.resize((round(photo.width * height / photo.height), height), Image.Resampling.BICUBIC))


@DATASETS.register_module()
class SamplePhotos(SelfSupDataset):
    """Unlabelled square windows of a photograph: real images at hand to learn and to show reconstructions.

    Args:
        split: ``'train'``: overlapping windows of a temple; ``'test'``: the windows that tile a flower.
        window: Side of the windows in pixels.
        height: Height that the photograph is scaled to.
        channels: 1 or 3.
        stride: Distance of neighbouring training windows.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: ``split`` is unknown or the photograph lower than a window.
    """

    def __init__(
        self,
        split: str = 'train',
        window: int = 16,
        height: int = 160,
        channels: int = 1,
        stride: int = 4,
        **kwargs: Any,
    ) -> None:
        if split not in PHOTOS or height < window:
            raise ConfigError(
                f"{type(self).__name__}: split is {split!r} and window {window} of height {height}, expected 'train' "
                "or 'test' and a window that fits"
            )
        self.split, self.window, self.height, self.channels, self.stride = split, window, height, channels, stride
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Cut the windows."""
        photo = sample_photo(PHOTOS[self.split], self.height, self.channels)
        step, side = self.stride if self.split == 'train' else self.window, self.window
        rows, columns = (range(0, size - side + 1, step) for size in photo.shape[:2])
        return [{'img': photo[y : y + side, x : x + side].copy()} for y in rows for x in columns]
