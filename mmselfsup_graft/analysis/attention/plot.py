"""Pictures of attention over images."""

import math

import matplotlib
import numpy as np
from PIL import Image as Pillow

from mmselfsup_graft.analysis.pages.images import in_color
from mmselfsup_graft.analysis.pages.shown import Image

_SIDE = 224  # dots; smaller images are enlarged by a whole factor
_OPACITY = 0.6  # of the colors over the image


def enlarged(image: Image) -> Image:
    """A small image with every pixel repeated, so that its longer side has 224 dots or more."""
    factor = math.ceil(_SIDE / max(image.shape[:2]))
    return image.repeat(factor, 0).repeat(factor, 1)


def over_image(image: Image, weights: np.ndarray) -> Image:
    """Attention as colors over a gray form of the image: from dark (none) to bright (the most in this picture).

    Args:
        image: uint8 [H, W] or [H, W, 3].
        weights: [h, w], not negative.

    Returns:
        uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    scaled = (weights / (weights.max() or 1)).astype(np.float32)
    whole = Pillow.fromarray(scaled, mode='F').resize((width, height), Pillow.Resampling.BILINEAR)
    strength = np.asarray(whole).clip(0, 1)
    colors = matplotlib.colormaps['inferno'](strength)[..., :3] * 255
    gray = in_color(image).mean(2, keepdims=True)
    return np.rint(gray * (1 - _OPACITY) + colors * _OPACITY).clip(0, 255).astype(np.uint8)


def as_image(colors: np.ndarray, like: Image) -> Image:
    """Colors uint8 [h, w, 3] of patches in the size of an image, without interpolation."""
    height, width = like.shape[:2]
    return np.asarray(Pillow.fromarray(colors).resize((width, height), Pillow.Resampling.NEAREST))
