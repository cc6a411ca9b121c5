"""Conversion of any image that Pillow opens to 8-bit RGB or gray; used wherever an image is opened.

docs/data.md has the table of all modes. In short: 16 bits are scaled by their range, 32-bit and floating-point pixels
are refused because their range is not known, an alpha channel is dropped, and color profiles and orientation tags are
not applied.
"""

from typing import Literal

import numpy as np
from PIL import Image

Mode = Literal['L', 'RGB']

#: Pillow's modes of 16 bits in one channel
SIXTEEN_BITS = ('I;16', 'I;16L', 'I;16B', 'I;16N')
_WHOLE = 65535
# TIFF tags: bits of a sample, what zero means, and how samples are to be read
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


class UnknownRange(Exception):
    """The range of the pixel values is unknown. The message says what to do."""


def to_rgb(image: Image.Image, mode: Mode = 'RGB') -> Image.Image:
    """Return the first frame of an image as ``RGB`` or, for ``mode='L'``, in gray.

    Reads all pixels. An image that has the mode is returned as a copy without its file.

    Args:
        image: As ``Image.open`` gave it.
        mode: ``'RGB'`` or ``'L'``.

    Raises:
        UnknownRange: Pixels are 32-bit integers or floating-point numbers.
    """
    if image.mode in ('RGB', 'L'):  # nearly every file
        return image.convert(mode)
    if image.mode in SIXTEEN_BITS:
        return _scaled(image).convert(mode)
    if image.mode == 'I' and image.format in ('PNG', 'PPM'):  # Pillow's form of 16 bits, depending on its version
        return _eight_bits(np.asarray(image), _WHOLE).convert(mode)
    if image.mode in ('I', 'F'):
        kind = 'floating-point numbers' if image.mode == 'F' else '32-bit or signed integers'
        raise UnknownRange(
            f'its pixels are {kind}, whose range is not known; scale them to 8 or 16 bits and store them as PNG or TIFF'
        )
    return _without_alpha(image).convert('RGB').convert(mode) if image.mode == 'LAB' else _plain(image, mode)


def _plain(image: Image.Image, mode: Mode) -> Image.Image:
    """Let Pillow convert; transparent pixels keep their color."""
    image = _without_alpha(image)
    image.info.pop('transparency', None)  # avoids a warning
    return image.convert(mode)


def _without_alpha(image: Image.Image) -> Image.Image:
    """Undo premultiplied alpha, which Pillow does not convert directly."""
    return image.convert({'RGBa': 'RGBA', 'La': 'LA'}[image.mode]) if image.mode in ('RGBa', 'La') else image


def _scaled(image: Image.Image) -> Image.Image:
    """Scale a 16-bit image by the range of its samples; a TIFF may state a smaller range, and white as zero."""
    image.load()
    values = np.asarray(image)
    tags = getattr(image, 'tag_v2', {}) if image.format == 'TIFF' else {}
    bits = tags.get(_BITS, (16,))
    depth = int(bits[0] if isinstance(bits, tuple) else bits)
    gray = _eight_bits(values, 2**depth - 1 if 8 < depth < 16 else _WHOLE)
    return gray.point(lambda value: 255 - value) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray


def _eight_bits(values: np.ndarray, whole: int) -> Image.Image:
    """Scale 0 … ``whole`` to 0 … 255, rounded to the nearest."""
    wide = values.astype(np.int64)
    return Image.fromarray(((wide * 510 + whole) // (2 * whole)).clip(0, 255).astype(np.uint8))
