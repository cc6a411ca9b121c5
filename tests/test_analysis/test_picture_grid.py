"""Rows of images: every pixel of an image a square of whole dots."""

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.analysis.figures.picture_grid import draw_rows
from mmselfsup_graft.errors import DataError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cell(path, images_per_row: int, rows: int, size: tuple[int, int], place: tuple[int, int]) -> np.ndarray:
    """The dots of one image of a drawn picture, counted from its lower right corner, where no text is."""
    with Image.open(path) as picture:
        dots = np.asarray(picture.convert('RGB'))
    bottom = dots.shape[0] - 6 - (rows - 1 - place[0]) * (size[0] + 6)
    right = dots.shape[1] - 6 - (images_per_row - 1 - place[1]) * (size[1] + 6)
    return dots[bottom - size[0] : bottom, right - size[1] : right]


@pytest.mark.parametrize(('shape', 'factor'), [((16, 16, 3), 8), ((28, 28), 5), ((64, 48, 3), 2), ((130, 130, 3), 1)])
def test_every_pixel_is_a_square_of_its_own_color(tmp_path, shape, factor):
    rows = {'first': [noise(*shape, seed=n) for n in (0, 1, 2)], 'a name\nof two lines': [noise(*shape, seed=3)] * 3}
    draw_rows(rows, tmp_path / 'folder' / 'rows.png', 'heading')
    size = (factor * shape[0], factor * shape[1])
    for number, row in enumerate(rows.values()):
        for column, image in enumerate(row):
            color = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2)
            expected = color.repeat(factor, 0).repeat(factor, 1)
            found = cell(tmp_path / 'folder' / 'rows.png', 3, 2, size, (number, column))
            np.testing.assert_array_equal(found, expected)
    assert [path.name for path in (tmp_path / 'folder').iterdir()] == ['rows.png']


def test_names_and_heading_have_their_place(tmp_path):
    for name, title, path in (('', '', 'none'), ('a long name of a checkpoint', 'a heading ' * 9, 'both')):
        draw_rows({name + '.': [noise(16, 16)]}, tmp_path / f'{path}.png', title)
    with Image.open(tmp_path / 'none.png') as small, Image.open(tmp_path / 'both.png') as large:
        assert small.height == large.height
        assert large.width > 800
        dots = np.asarray(large.convert('L'))
    assert (dots[:, :6] == 255).all(), 'a name is cut off at the left'
    assert (dots[:30] < 128).any()
    assert (dots[60:, : large.width - 140] < 128).any()


def test_no_image_is_an_error(tmp_path):
    with pytest.raises(DataError, match='no image'):
        draw_rows({'row': []}, tmp_path / 'rows.png')
    assert not list(tmp_path.iterdir())
