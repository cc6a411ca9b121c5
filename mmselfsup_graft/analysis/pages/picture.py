"""Pictures with captions on a page, and thumbnails of image files."""

from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from mmselfsup_graft.datasets.image_modes import UnknownRange, to_rgb

from .images import data_uri, is_pixelated
from .shown import Image

_THUMBNAIL = 192  # dots of the longer side


@dataclass(frozen=True)
class Picture:
    """A picture with its caption, for ``cards.html``.

    Attributes:
        uri: Its address.
        alt: What it shows.
        title: First line of the caption; may be empty.
        text: Rest of the caption; may be empty.
        pixelated: Whether it is enlarged without interpolation.
    """

    uri: str
    alt: str
    title: str = ''
    text: str = ''
    pixelated: bool = False


def picture(image: Image, alt: str, title: str = '', text: str = '', largest: int = _THUMBNAIL) -> Picture:
    """A picture of an image: its longer side is scaled down to ``largest``."""
    return Picture(data_uri(image, largest), alt, title, text, is_pixelated(image))


def thumbnail_of(path: str, largest: int = _THUMBNAIL) -> Image | None:
    """An image file as uint8 [H, W] or [H, W, 3], at most ``largest`` pixels per side; None if it cannot be read."""
    try:
        with Pillow.open(path) as file:
            file.draft('RGB', (largest, largest))  # a JPEG is decoded at a smaller size
            image = file.convert('L') if file.mode == 'L' else to_rgb(file)
    except (OSError, ValueError, SyntaxError, UnknownRange, Pillow.DecompressionBombError, MemoryError):
        return None
    if max(image.size) > largest:
        image.thumbnail((largest, largest), Pillow.Resampling.LANCZOS)
    return np.asarray(image)
