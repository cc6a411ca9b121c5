"""Random loss of color: torchvision's ``RandomGrayscale``."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision import transforms

from .kernels import kornia, to_unit
from .operation import Group, Numbers, Operation, Size, group


class GrayscaleRow(NamedTuple):
    """Whether to drop the colors.

    Attributes:
        happens: 1 for a gray image, 0 for one that stays as it is.
    """

    happens: Numbers

    def groups(self) -> Iterable[Group]:
        """Drop the colors of some."""
        return [group(grayscale_batch, self.happens != 0)]


def grayscale_array(image: np.ndarray) -> np.ndarray:
    """Gray image in three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def grayscale_batch(images: torch.Tensor) -> torch.Tensor:
    """Gray images in three equal channels."""
    gray = kornia().color.rgb_to_grayscale(to_unit(images))
    return gray.mul_(255).round_().to(torch.uint8).expand_as(images)


class Grayscale(Operation):
    """torchvision's ``RandomGrayscale``."""

    stands_for = transforms.RandomGrayscale

    def __init__(self, transform: transforms.RandomGrayscale, channels: int) -> None:
        super().__init__(transform, channels)
        self.p = transform.p

    def draw(self, height: int, width: int) -> GrayscaleRow | None:
        """Draw whether to drop the colors; a gray image has none."""
        happens = bool(torch.rand(1) < self.p)
        return GrayscaleRow(True) if happens and self.channels == 3 else None

    def apply(self, image: np.ndarray, drawn: GrayscaleRow) -> np.ndarray:
        """Drop the colors."""
        return grayscale_array(image)

    def idle(self, size: Size) -> GrayscaleRow:
        """Row that keeps the colors."""
        return GrayscaleRow(False)
