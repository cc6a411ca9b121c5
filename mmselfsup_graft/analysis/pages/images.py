"""Images as text inside a page."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from .shown import Image

_SMALL = 48  # images up to this side are kept pixel by pixel
_QUALITY = 86
_DARK, _LIGHT = 40, 215


def data_uri(image: Image, largest: int = 512) -> str:
    """A ``data:`` address of an image: PNG if it is small or has an alpha channel, else JPEG.

    Args:
        image: uint8 [H, W], [H, W, 3] or [H, W, 4].
        largest: Longer side; larger images are scaled down to it.
    """
    picture = Pillow.fromarray(image)
    factor = largest / max(picture.size)
    if factor < 1:
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(size, Pillow.Resampling.LANCZOS)
    file = io.BytesIO()
    if max(picture.size) <= _SMALL or (image.ndim == 3 and image.shape[2] == 4):
        picture.save(file, 'PNG', optimize=True)
        kind = 'png'
    else:
        picture.save(file, 'JPEG', quality=_QUALITY, subsampling=0, optimize=True)
        kind = 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}'


def is_pixelated(image: Image) -> bool:
    """Whether an image is so small that it is enlarged without interpolation."""
    return max(image.shape[:2]) <= _SMALL


def drawing_ink(images: Sequence[Image]) -> str | None:
    """``light`` or ``dark`` if the images are gray drawings in that ink on a uniform background, else None."""
    if any(image.ndim == 3 for image in images):
        return None
    border = np.concatenate([np.concatenate([i[0], i[-1], i[:, 0], i[:, -1]]) for i in images])
    if np.quantile(border, 0.75) <= _DARK:
        return 'light'
    return 'dark' if np.quantile(border, 0.25) >= _LIGHT else None


def sheet(tiles: Sequence[np.ndarray], side: int) -> tuple[np.ndarray, int]:
    """Put tiles side by side into one square image, row by row.

    Args:
        tiles: uint8 [H, W, C], scaled so that the longer side is ``side``, in the middle of a square; the rest of it is
            black, or transparent with an alpha channel.
        side: Of a tile in the sheet.

    Returns:
        The image uint8 [R * side, R * side, C], and R, the tiles per row.
    """
    per_row = math.ceil(math.sqrt(len(tiles)))
    whole = np.zeros((per_row * side, per_row * side, tiles[0].shape[2]), dtype=np.uint8)
    for number, tile in enumerate(tiles):
        scaled = _scaled(tile, side)
        height, width = scaled.shape[:2]
        y = side * (number // per_row) + (side - height) // 2
        x = side * (number % per_row) + (side - width) // 2
        whole[y : y + height, x : x + width] = scaled
    return whole, per_row


def recolored(image: Image, ink: str, color: tuple[int, int, int]) -> np.ndarray:
    """A drawing in another color on a transparent background, uint8 [H, W, 4].

    Args:
        image: Grey, uint8 [H, W].
        ink: ``light`` or ``dark``.
        color: Red, green and blue.
    """
    opacity = image if ink == 'light' else 255 - image
    return np.dstack([*(np.full_like(image, channel) for channel in color), opacity])


def in_color(image: Image) -> np.ndarray:
    """The image with three channels."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def _scaled(tile: np.ndarray, side: int) -> np.ndarray:
    """The tile with ``side`` as its longer side; its proportions stay."""
    longest = max(tile.shape[:2])
    if longest == side:
        return tile
    height, width = (max(1, round(length * side / longest)) for length in tile.shape[:2])
    return np.asarray(Pillow.fromarray(tile).resize((width, height), Pillow.Resampling.LANCZOS))
