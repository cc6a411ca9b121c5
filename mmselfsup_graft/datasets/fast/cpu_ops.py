"""PIL's image operations on uint8 arrays by OpenCV: (H, W, 3) in RGB order or (H, W), never changed in place.

PIL works in 8 bits and truncates where OpenCV rounds; tests hold how far the two are apart.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

_LEVELS = np.arange(256, dtype=np.float32)
_SHARES = _LEVELS / np.float32(255)
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601, the weights of PIL's mode L
_BELOW_A_LEVEL = 1e-3  # float arithmetic may end just below the level that PIL truncates to
_TRUNCATE = -0.4999  # added before rounding
_TRUNCATE_HUE = -0.5001  # a hue that is a whole number of steps comes out just below it in PIL


class Scratch:
    """Memory for intermediate images, used again and again: to get fresh pages costs as much as half a crop."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type, tuple]:
        return Scratch, ()  # a copy has memory of its own

    def view(self, *shape: int) -> np.ndarray:
        """Return an array of this shape, which the next call overwrites."""
        size = math.prod(shape)
        if size > len(self._memory):
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size].reshape(shape)


def crop_and_resize(
    image: np.ndarray,
    window: tuple[int, int, int, int],
    size: tuple[int, int],
    mode: InterpolationMode,
    scratch: Scratch | None = None,
) -> np.ndarray:
    """Cut out (top, left, height, width) and resize it with antialiasing, by torch's 8-bit kernel."""
    top, left, height, width = window
    cut = (scratch or Scratch()).view(height, width, *image.shape[2:])
    np.copyto(cut, image[top : top + height, left : left + width])  # quicker than what the kernel does with a view
    pixels = torch.from_numpy(cut)
    pixels = pixels.permute(2, 0, 1)[None] if pixels.ndim == 3 else pixels[None, None]
    resized = F.resize_image(pixels, list(size), interpolation=mode, antialias=True)[0]
    return resized.permute(1, 2, 0).numpy() if image.ndim == 3 else resized[0].numpy()


def flip(image: np.ndarray) -> np.ndarray:
    """Mirror left and right."""
    return cv2.flip(image, 1)


def flip_planes(image: np.ndarray) -> np.ndarray:
    """Mirror (C, H, W) left and right."""
    return cv2.flip(image.reshape(-1, image.shape[2]), 1).reshape(image.shape)


def _blend_table(darker: float, factor: float) -> np.ndarray:
    """What becomes of the 256 levels when an image is blended with one level, as in PIL's ``Image.blend``."""
    base = np.float32(darker)
    return (base + np.float32(factor) * (_LEVELS - base)).clip(0, 255).astype(np.uint8)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with black."""
    return cv2.LUT(image, _blend_table(0.0, factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the mean level of the grey image."""
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.LUT(image, _blend_table(math.floor(cv2.mean(grey)[0] + 0.5), factor))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the grey image."""
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = factor * np.eye(3) + (1 - factor) * np.array(_GREY)
    matrix[:, 3] = _TRUNCATE
    return cv2.transform(image, matrix)


def hue(image: np.ndarray, factor: float) -> np.ndarray:
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
    return ((_LEVELS + steps) % 256 * np.float32(360 / 255)).astype(np.float32)


def grayscale(image: np.ndarray) -> np.ndarray:
    """Grey image in three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


@lru_cache(maxsize=16)
def _solarize_table(threshold: float) -> np.ndarray:
    return np.where(threshold <= _LEVELS, 255 - _LEVELS, _LEVELS).astype(np.uint8)


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Invert the levels from ``threshold`` on."""
    return cv2.LUT(image, _solarize_table(threshold))


def affine(image: np.ndarray, matrix: Sequence[float], bilinear: bool, fill: Sequence[float]) -> np.ndarray:
    """Take every pixel from where the matrix maps its center to; what lies outside the image is filled.

    As in PIL, the edge is sharp: a position inside the image is interpolated between its pixels alone. The form for
    batches is ``models.augment.operations.affine``.

    Args:
        image: (H, W, 3) or (H, W).
        matrix: (a, b, c, d, e, f): (x, y) of the result comes from (a x + b y + c, d x + e y + f), in pixels from the
            upper left corner.
        bilinear: Interpolate; otherwise take the nearest pixel.
        fill: Level of each channel.
    """
    height, width = image.shape[:2]
    a, b, c, d, e, f = matrix
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5  # centers
    columns, rows = a * x + (b * y + c), d * x + (e * y + f)  # (H, W) each
    outside = (columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)
    if bilinear:
        places = (columns - 0.5).astype(np.float32), (rows - 0.5).astype(np.float32)
        levels = cv2.remap(image.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        result = (levels + np.float32(_BELOW_A_LEVEL)).astype(np.uint8)
    else:
        result = image[rows.clip(0, height - 1).astype(np.intp), columns.clip(0, width - 1).astype(np.intp)]
    result[outside] = fill if image.ndim == 3 else fill[0]
    return result


def box_kernel(sigma: float) -> np.ndarray:
    """The extended box filter whose threefold use is PIL's Gaussian blur; odd length, sum 1, float32.

    Gwosdek et al., *Theoretical Foundations of Gaussian Convolution by Extended Box Filtering*, 2011: the width and the
    weight at the edges give three passes together the variance ``sigma ** 2``.
    The form for batches is ``models.augment.operations.box_kernels``: data sets and models do not import each other.
    """
    variance = sigma * sigma / 3
    inner = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    edge = (2 * inner + 1) * (inner * (inner + 1) - 3 * variance) / (6 * (variance - (inner + 1) ** 2))
    box = np.ones(2 * inner + 3, np.float32)
    box[[0, -1]] = edge
    return box / (2 * inner + 1 + 2 * edge)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blur as PIL does: three box filters for a Gaussian of standard deviation ``sigma`` pixels."""
    box = box_kernel(sigma).astype(np.float32)
    for _ in range(3):
        image = cv2.sepFilter2D(image, -1, box, box, borderType=cv2.BORDER_REPLICATE)
    return image


def planes(image: np.ndarray) -> np.ndarray:
    """Copy (H, W, C) or (H, W) to contiguous (C, H, W)."""
    if image.ndim == 2:
        return image[None].copy()
    height, width, channels = image.shape
    result = np.empty((channels, height, width), np.uint8)
    cv2.split(image, list(result))
    return result
