"""Random inversion of the upper levels: torchvision's ``RandomSolarize``."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision import transforms

from .kernels import LEVELS
from .operation import Group, Numbers, Operation, Size, group

_NONE = 256.0


class SolarizeRow(NamedTuple):
    """From which level on to invert.

    Attributes:
        threshold: First level that is inverted, 256 for none.
    """

    threshold: Numbers

    def groups(self) -> Iterable[Group]:
        """Solarize some."""
        return [group(solarize_batch, self.threshold != _NONE, self.threshold)]


@lru_cache(maxsize=16)
def _table(threshold: float) -> np.ndarray:
    return np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS).astype(np.uint8)


def solarize_array(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert the levels from ``threshold`` on."""
    return cv2.LUT(image, _table(threshold))


def solarize_batch(images: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Invert the levels from thresholds [B] on."""
    return torch.where(images < thresholds[:, None, None, None], images, 255 - images)


class Solarize(Operation):
    """torchvision's ``RandomSolarize``."""

    stands_for = transforms.RandomSolarize

    def __init__(self, transform: transforms.RandomSolarize, channels: int) -> None:
        super().__init__(transform, channels)
        self.p, self.threshold = transform.p, float(transform.threshold)

    def draw(self, height: int, width: int) -> SolarizeRow | None:
        """Draw whether to solarize."""
        return SolarizeRow(self.threshold) if torch.rand(1).item() < self.p else None

    def apply(self, image: np.ndarray, drawn: SolarizeRow) -> np.ndarray:
        """Invert the upper levels."""
        return solarize_array(image, drawn.threshold)

    def idle(self, size: Size) -> SolarizeRow:
        """No level."""
        return SolarizeRow(_NONE)
