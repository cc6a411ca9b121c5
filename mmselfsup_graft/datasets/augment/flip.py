"""Random mirroring: torchvision's ``RandomHorizontalFlip``."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision import transforms

from .operation import Group, Numbers, Operation, Size, group


class FlipRow(NamedTuple):
    """Whether to flip.

    Attributes:
        happens: 1 for a flip, 0 for none.
    """

    happens: Numbers

    def groups(self) -> Iterable[Group]:
        """Flip some."""
        return [group(flip_batch, self.happens != 0)]


def flip_array(image: np.ndarray) -> np.ndarray:
    """Mirror left and right."""
    return cv2.flip(image, 1)


def flip_planes(image: np.ndarray) -> np.ndarray:
    """Mirror (C, H, W) left and right."""
    return cv2.flip(image.reshape(-1, image.shape[2]), 1).reshape(image.shape)


def flip_batch(images: torch.Tensor) -> torch.Tensor:
    """Mirror left and right."""
    return images.flip(-1)


class Flip(Operation):
    """torchvision's ``RandomHorizontalFlip``."""

    stands_for = transforms.RandomHorizontalFlip

    def __init__(self, transform: transforms.RandomHorizontalFlip, channels: int) -> None:
        super().__init__(transform, channels)
        self.p = transform.p

    def draw(self, height: int, width: int) -> FlipRow | None:
        """Draw whether to flip."""
        return FlipRow(True) if torch.rand(1) < self.p else None

    def apply(self, image: np.ndarray, drawn: FlipRow) -> np.ndarray:
        """Flip."""
        return flip_array(image)

    def idle(self, size: Size) -> FlipRow:
        """No flip."""
        return FlipRow(False)
