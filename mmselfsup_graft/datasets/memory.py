"""Data sets that lie in memory, image by image or as one array."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def stack_images(samples: Iterable[Mapping[str, Any]], channels: int) -> np.ndarray | None:
    """Return the images of all samples as one array.

    Args:
        samples: Entries of a list of samples.
        channels: 1 or 3.

    Returns:
        uint8 (N, H, W) or (N, H, W, 3); ``None`` unless all images lie in memory, in one size, with so many channels.
    """
    images: list[np.ndarray] = []
    for sample in samples:
        image = sample.get('img')
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,)[: channels // 2]:
            return None
        if image.ndim < 2 or image.shape != (images or [image])[0].shape:
            return None
        images.append(image)
    return np.stack(images)
