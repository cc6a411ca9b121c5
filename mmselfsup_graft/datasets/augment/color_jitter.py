"""Random changes of brightness, contrast, saturation and hue: torchvision's ``ColorJitter``.

The batched forms are kornia's, but for brightness, on 0..1.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision import transforms

from .kernels import BELOW_A_LEVEL, LEVELS, kornia, to_levels, to_unit
from .operation import Group, Numbers, Operation, Size, group, uniform

_SHARES = LEVELS / np.float32(255)
_GRAY = (0.299, 0.587, 0.114)  # ITU-R 601, the weights of PIL's mode L
_TRUNCATE = -0.4999  # added before rounding
_TRUNCATE_HUE = -0.5001  # a hue that is a whole number of steps comes out just below it in PIL


class ColorJitterRow(NamedTuple):
    """Which changes, in which order, by how much.

    Attributes:
        order: Four numbers of changes (brightness, contrast, saturation, hue), -1 for none.
        factors: For each its factor.
    """

    order: Numbers
    factors: Numbers

    def groups(self) -> Iterable[Group]:
        """Every image has its own order: one group for each place in the order and each change."""
        for order, factors in zip(self.order.unbind(1), self.factors.unbind(1)):
            for number in order.unique().int().tolist():
                if number >= 0:
                    yield group(_BATCHES[number], order == number, factors)


# ---------------------------------------------------------------- arrays
def _blend_table(darker: float, factor: float) -> np.ndarray:
    """What becomes of the 256 levels when an image is blended with one level, as in PIL's ``Image.blend``."""
    base = np.float32(darker)
    return (base + np.float32(factor) * (LEVELS - base)).clip(0, 255).astype(np.uint8)


def brightness_array(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black."""
    return cv2.LUT(image, _blend_table(0.0, factor))


def contrast_array(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean level of the gray image."""
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.LUT(image, _blend_table(math.floor(cv2.mean(gray)[0] + 0.5), factor))


def saturation_array(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the gray image."""
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = factor * np.eye(3) + (1 - factor) * np.array(_GRAY)
    matrix[:, 3] = _TRUNCATE
    return cv2.transform(image, matrix)


def hue_array(image: np.ndarray, factor: float) -> np.ndarray:
    """Turn the hue by ``factor`` of the circle; hue and saturation have 8 bits, cut off, as in PIL."""
    hsv = cv2.cvtColor(np.multiply(image, np.float32(1 / 255), dtype=np.float32), cv2.COLOR_RGB2HSV)  # H in degrees
    hues, saturations, values = cv2.split(hsv)
    hues = cv2.LUT(cv2.convertScaleAbs(hues, alpha=255 / 360, beta=_TRUNCATE_HUE), _hue_table(int(factor * 255)))
    saturations = cv2.LUT(cv2.convertScaleAbs(saturations, alpha=255, beta=_TRUNCATE), _SHARES)
    turned = cv2.cvtColor(cv2.merge([hues, saturations, values]), cv2.COLOR_HSV2RGB)
    return cv2.convertScaleAbs(turned, alpha=255)


@lru_cache(maxsize=256)
def _hue_table(steps: int) -> np.ndarray:
    """Degrees of PIL's 255 steps of hue, turned by some."""
    return ((LEVELS + steps) % 256 * np.float32(360 / 255)).astype(np.float32)


# ---------------------------------------------------------------- batches, by factors [B]
def brightness_batch(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Blend with black."""
    return to_levels(to_unit(images).mul_(factors[:, None, None, None]))


def contrast_batch(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of the gray image."""
    return to_levels(kornia().enhance.adjust_contrast_with_mean_subtraction(to_unit(images), factors))


def saturation_batch(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Blend with the gray image."""
    return to_levels(kornia().enhance.adjust_saturation_with_gray_subtraction(to_unit(images), factors))


def hue_batch(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Turn the hue by a part of the circle; hue and saturation have 8 bits, cut off, as in PIL."""
    color = kornia().color
    h, s, v = color.rgb_to_hsv(to_unit(images)).unbind(1)  # each [B, H, W]
    steps = (factors * 255).trunc()[:, None, None]
    h = ((h * (255 / (2 * math.pi)) + BELOW_A_LEVEL).floor() + steps) % 256
    s = (s * 255 + BELOW_A_LEVEL).floor()
    hsv = torch.stack([h * (2 * math.pi / 255), s / 255, v], 1)
    return color.hsv_to_rgb(hsv).mul_(255).round_().to(torch.uint8)


# in the order in which torchvision numbers them
_ARRAYS = (brightness_array, contrast_array, saturation_array, hue_array)
_BATCHES = (brightness_batch, contrast_batch, saturation_batch, hue_batch)


class ColorJitter(Operation):
    """torchvision's ``ColorJitter``: the order and the factors of the four changes are drawn."""

    stands_for = transforms.ColorJitter

    def __init__(self, transform: transforms.ColorJitter, channels: int) -> None:
        super().__init__(transform, channels)
        self.ranges = (transform.brightness, transform.contrast, transform.saturation, transform.hue)

    def draw(self, height: int, width: int) -> ColorJitterRow:
        """Draw order and factors."""
        order = torch.randperm(4).tolist()
        factors = [None if each is None else uniform(*each) for each in self.ranges]
        known = 4 if self.channels == 3 else 2  # saturation and hue leave a gray image as it is
        done = [(k, factor) for k in order if k < known and (factor := factors[k]) is not None]
        rest = 4 - len(done)
        return ColorJitterRow([*(k for k, _ in done), *[-1] * rest], [*(f for _, f in done), *[1.0] * rest])

    def apply(self, image: np.ndarray, drawn: ColorJitterRow) -> np.ndarray:
        """Run the changes."""
        for number, factor in zip(drawn.order, drawn.factors):
            if number >= 0:
                image = _ARRAYS[number](image, factor)
        return image

    def idle(self, size: Size) -> ColorJitterRow:
        """No change."""
        return ColorJitterRow([-1] * 4, [1.0] * 4)
