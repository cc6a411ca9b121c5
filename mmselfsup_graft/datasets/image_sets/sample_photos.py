"""Photographs that come with scikit-learn and scikit-image, cut into windows."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets.image_modes import to_rgb
from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS

# Only files inside the installed packages: scikit-image downloads its other images from the network. Its second view
# of the motorcycle is left out, as it is nearly equal to the first.
PHOTOS: dict[str, dict[str, tuple[str, ...]]] = {
    'scikit-learn': {'train': ('china.jpg',), 'test': ('flower.jpg',)},
    'scikit-image': {
        'train': (
            'astronaut.png',
            'coffee.png',
            'hubble_deep_field.jpg',
            'ihc.png',
            'motorcycle_left.png',
            'retina.jpg',
        ),
        'test': ('chelsea.png', 'rocket.jpg'),
    },
}
_FOLDERS = {'scikit-learn': ('sklearn', 'datasets/images'), 'scikit-image': ('skimage', 'data')}


def photos_of(library: str | Sequence[str], split: str) -> list[tuple[str, str]]:
    """(Library, file name) of the photographs of a split of one or more libraries, see :data:`PHOTOS`."""
    libraries = [library] if isinstance(library, str) else library
    return [(each, name) for each in libraries for name in PHOTOS[each][split]]


def sample_photo(name: str, height: int, channels: int, library: str = 'scikit-learn') -> np.ndarray:
    """One of the photographs that come with a library.

    Args:
        name: File name, see :data:`PHOTOS`.
        height: Height in pixels, reached by bicubic scaling; the width follows.
        channels: 1 for gray, 3 for color.
        library: ``'scikit-learn'`` or ``'scikit-image'``.

    Returns:
        uint8 of shape (H, W) or (H, W, 3).

    Raises:
        DataError: The file is missing in the installed library.
    """
    package, folder = _FOLDERS[library]
    path = files(package) / folder / name
    if not path.is_file():
        raise DataError(f'{library} has no {name} in {path}; reinstall it: pip install --force-reinstall {library}')
    with path.open('rb') as file, Image.open(file) as image:
        photo = to_rgb(image, 'L' if channels == 1 else 'RGB')
    return np.asarray(photo.resize((round(photo.width * height / photo.height), height), Image.Resampling.BICUBIC))


@DATASETS.register_module()
class SamplePhotos(SelfSupDataset):
    """Unlabeled square windows of photographs: real images for pre-training and for reconstructions.

    Args:
        split: ``'train'``: overlapping windows; ``'test'``: the windows that tile other photographs.
        window: Side of the windows in pixels.
        height: Height that every photograph is scaled to.
        channels: 1 or 3.
        stride: Distance between neighboring training windows in pixels.
        library: ``'scikit-learn'``: a temple to learn from, a flower to test on; ``'scikit-image'``: six photographs to
            learn from (people, things, a microscope's, a telescope's), a cat and a rocket to test on. Or several.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: ``library`` or ``split`` is unknown, ``channels`` or ``stride`` is invalid, or the photographs
            are smaller than a window.
        DataError: The photographs are missing in the installed library.
    """

    reads_data_root = False

    def __init__(
        self,
        split: str = 'train',
        window: int = 16,
        height: int = 160,
        channels: int = 1,
        stride: int = 4,
        library: str | Sequence[str] = 'scikit-learn',
        **kwargs: Any,
    ) -> None:
        libraries = [library] if isinstance(library, str) else list(library)
        if not libraries or not set(libraries) <= set(PHOTOS):
            raise ConfigError(f'{type(self).__name__}: library is {library!r}, expected one or more of {list(PHOTOS)}')
        if split not in PHOTOS[libraries[0]] or not 1 <= window <= height:
            raise ConfigError(
                f"{type(self).__name__}: split is {split!r} and window {window} of height {height}, expected 'train' "
                "or 'test' and a window that fits"
            )
        if channels not in (1, 3) or stride < 1:
            raise ConfigError(
                f'{type(self).__name__}: channels is {channels!r} and stride {stride!r}, expected 1 or 3 and at least 1'
            )
        self.split, self.window, self.height, self.channels, self.stride = split, window, height, channels, stride
        self.libraries = libraries
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Cut the windows, one photograph after the other, row by row."""
        photos = photos_of(self.libraries, self.split)
        return [window for library, name in photos for window in self._windows(library, name)]

    def _windows(self, library: str, name: str) -> list[dict]:
        photo = sample_photo(name, self.height, self.channels, library)
        step, side = self.stride if self.split == 'train' else self.window, self.window
        rows, columns = (range(0, size - side + 1, step) for size in photo.shape[:2])
        return [{'img': photo[y : y + side, x : x + side].copy()} for y in rows for x in columns]
