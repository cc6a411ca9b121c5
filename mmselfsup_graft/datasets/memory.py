"""Data sets in memory, as single images or as one array."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Stacked(NamedTuple):
    """All samples of a data set in arrays.

    Attributes:
        images: uint8 (N, H, W) or (N, H, W, 3).
        labels: int64 (N,); ``None`` if no sample has one.
    """

    images: np.ndarray
    labels: np.ndarray | None


def stack_samples(samples: Iterable[Mapping[str, Any]], channels: int) -> Stacked | None:
    """Return images and labels of all samples as arrays.

    Args:
        samples: Entries of a list of samples.
        channels: 1 or 3.

    Returns:
        ``None`` unless :func:`stack_images` can stack the images and either all samples or none have an integer label.
    """
    labels: list[Any] = []

    def read() -> Iterable[Mapping[str, Any]]:
        for sample in samples:
            labels.append(sample.get('gt_label'))
            yield sample

    images = stack_images(read(), channels)
    if images is None or not all(label is None or isinstance(label, int | np.integer) for label in labels):
        return None
    if None in labels:
        return Stacked(images, None) if set(labels) == {None} else None
    return Stacked(images, np.array(labels, dtype=np.int64))


def stack_images(samples: Iterable[Mapping[str, Any]], channels: int) -> np.ndarray | None:
    """Return the images of all samples as one array.

    Args:
        samples: Entries of a list of samples.
        channels: 1 or 3.

    Returns:
        uint8 (N, H, W) or (N, H, W, 3); ``None`` unless all images are in memory, with one size and this number of
        channels.
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
