"""Rows of small images with names: every image pixel is a square of whole figure pixels."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.utils.files import whole_file

_DPI = 120
_SMALLEST = 128  # dots; smaller images are enlarged by a whole factor
_PHOTO = 300  # dots; the same for the height of photographs
_GAP, _HEADING, _FONT = 6, 40, 9
_DOTS_PER_LETTER = 9  # of that font at that resolution


def draw_rows(rows: Mapping[str, Sequence[np.ndarray]], target: Path, title: str = '') -> None:
    """Draw one row of images per entry, its name at the left.

    Args:
        rows: Name (of one or more lines) -> images, uint8 [H, W] or [H, W, 3], all of one size; as many in each row.
        target: PNG to write; written atomically.
        title: Heading.

    Raises:
        DataError: If there is no image.
    """
    pictures = [each for row in rows.values() for each in row]
    if not pictures:
        raise DataError(f'no image to draw into {target}')
    height, width = pictures[0].shape[:2]
    factor = max(1, math.ceil(_SMALLEST / max(height, width)))
    cell = (factor * height, factor * width)
    margin = 2 * _GAP + _DOTS_PER_LETTER * max(len(line) for name in rows for line in name.splitlines())
    columns = max(map(len, rows.values()))
    whole_width = max(margin + columns * (cell[1] + _GAP), 2 * _GAP + _DOTS_PER_LETTER * len(title))
    canvas = _Canvas(_HEADING + len(rows) * (cell[0] + _GAP), whole_width)
    canvas.write(title, _HEADING // 2, whole_width // 2, 'center')
    for number, (name, row) in enumerate(rows.items()):
        top = _HEADING + number * (cell[0] + _GAP)
        canvas.write(name, top + cell[0] // 2, margin - _GAP, 'right')
        for column, picture in enumerate(row):
            canvas.show(picture, (top, margin + column * (cell[1] + _GAP)), cell)
    save_figure(canvas.figure, target, _DPI)


def draw_titled_rows(rows: Sequence[Mapping[str, np.ndarray]], target: Path) -> None:
    """Draw rows of images with a title above each; rows may differ in the size and the number of their images.

    Args:
        rows: Title -> image, uint8 [H, W] or [H, W, 3]; the images of a row have one size.
        target: PNG to write; written atomically.

    Raises:
        DataError: If there is no image.
    """
    rows = [row for row in rows if row]
    if not rows:
        raise DataError(f'no image to draw into {target}')
    sizes = [next(iter(row.values())).shape[:2] for row in rows]
    factor = max(1, math.ceil(_PHOTO / max(height for height, _ in sizes)))
    cells = [(factor * height, factor * width) for height, width in sizes]
    widths = [len(row) * (cell[1] + _GAP) for row, cell in zip(rows, cells)]
    canvas = _Canvas(sum(cell[0] + _HEADING for cell in cells) + _GAP, max(widths) + _GAP)
    top = 0
    for row, cell in zip(rows, cells):
        for column, (title, picture) in enumerate(row.items()):
            left = _GAP + column * (cell[1] + _GAP)
            canvas.write(title, top + _HEADING // 2, left + cell[1] // 2, 'center')
            canvas.show(picture, (top + _HEADING, left), cell)
        top += _HEADING + cell[0]
    save_figure(canvas.figure, target, _DPI)


class _Canvas:
    """A figure with positions in pixels from its upper left corner."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.figure = plt.figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)

    def write(self, text: str, y: int, x: int, align: str) -> None:
        """Text around the height ``y``, to the left of, or around, ``x``."""
        self.figure.text(x / self.width, 1 - y / self.height, text, ha=align, va='center', fontsize=_FONT)

    def show(self, picture: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> None:
        """An image of a size (height, width) with its upper left corner at (y, x)."""
        bottom = self.height - corner[0] - size[0]
        place = (corner[1] / self.width, bottom / self.height, size[1] / self.width, size[0] / self.height)
        axis = self.figure.add_axes(place)
        color = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)  # maps of colors round
        axis.imshow(color, interpolation='nearest', aspect='auto')
        axis.set_axis_off()


def save_figure(figure: Figure, target: Path, dpi: int) -> None:
    """Write a figure as a PNG atomically, and close it."""
    with whole_file(target) as file:
        figure.savefig(file, dpi=dpi, format='png')
    plt.close(figure)
