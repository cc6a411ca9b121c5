"""JPEG files to read: crops of scikit-image's photographs, or a folder of one's own."""

from pathlib import Path

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets.image_sets.sample_photos import PHOTOS, sample_photo
from mmselfsup_graft.errors import DataError

WIDTH, HEIGHT, QUALITY = 500, 400, 97


def make_photos(folder: Path, count: int = 64, seed: int = 0) -> Path:
    """Write ``count`` JPEGs of 500 x 400 pixels, 4:2:0, quality 97, into two class folders.

    Each is a random window of a photograph, scaled by up to 1.6 and perhaps mirrored: about as many bytes as a file of
    ImageNet.

    Args:
        folder: Where to write.
        count: Number of files.
        seed: Of the windows.
    """
    rng = np.random.default_rng(seed)
    names = [name for names in PHOTOS['scikit-image'].values() for name in names]
    for number in range(count):
        height = int(rng.integers(HEIGHT, round(1.6 * HEIGHT)))
        photo = sample_photo(names[number % len(names)], height, 3, 'scikit-image')
        if photo.shape[1] < WIDTH:  # an upright photograph
            wider = Image.fromarray(photo).resize((WIDTH, round(height * WIDTH / photo.shape[1])), Image.BICUBIC)
            photo = np.asarray(wider)
        top = int(rng.integers(0, photo.shape[0] - HEIGHT + 1))
        left = int(rng.integers(0, photo.shape[1] - WIDTH + 1))
        window = photo[top : top + HEIGHT, left : left + WIDTH]
        window = window[:, ::-1] if rng.random() < 0.5 else window
        target = folder / f'class_{number % 2}' / f'{number:04}.jpg'
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(window)).save(target, quality=QUALITY, subsampling='4:2:0')
    return folder


def photo_folder(given: str | None, temporary: str) -> str:
    """The folder to read: the given one, or photographs made in the temporary one.

    Raises:
        DataError: If the given one does not exist.
    """
    if not given:
        return str(make_photos(Path(temporary)))
    if not Path(given).is_dir():
        raise DataError(f'--data {given}: no such folder')
    return given
