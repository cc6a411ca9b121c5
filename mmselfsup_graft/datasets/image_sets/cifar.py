"""CIFAR-10 and CIFAR-100 from their binary files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmselfsup_graft.datasets.classes import numbers_as_names, read_classes
from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_SITE = 'https://www.cs.toronto.edu/~kriz'


@dataclass(frozen=True)
class _Release:
    """One of the two binary releases.

    Attributes:
        folder: Folder in its archive.
        archive: Name of the archive on :data:`_SITE`.
        pickled: Folder of the release for Python, which is not read.
        files: Split -> names of its files.
        names: File with the names of the classes, one a line.
        label_bytes: Bytes before the pixels of a record; the last one is the label.
    """

    folder: str
    archive: str
    pickled: str
    files: dict[str, tuple[str, ...]]
    names: str
    label_bytes: int


_RELEASES = {
    10: _Release(
        'cifar-10-batches-bin',
        'cifar-10-binary.tar.gz',
        'cifar-10-batches-py',
        {'train': tuple(f'data_batch_{number}.bin' for number in range(1, 6)), 'test': ('test_batch.bin',)},
        'batches.meta.txt',
        1,
    ),
    100: _Release(
        'cifar-100-binary',
        'cifar-100-binary.tar.gz',
        'cifar-100-python',
        {'train': ('train.bin',), 'test': ('test.bin',)},
        'fine_label_names.txt',
        2,  # the coarse label comes first
    ),
}


@DATASETS.register_module()
class CIFAR(SelfSupDataset):
    """CIFAR-10 or CIFAR-100, 32x32 color, kept in memory: 50,000 training and 10,000 test images.

    Reads the binary releases (Krizhevsky, 2009), unpacked in ``data_root`` or in the folder of the archive's name below
    it. The releases for Python are pickles and are not read, because opening a pickle can run code. Nothing is
    downloaded.

    Args:
        data_root: Folder of the files, or the one that holds ``cifar-10-batches-bin`` or ``cifar-100-binary``.
        classes: 10 or 100; the labels of 100 are the fine ones.
        split: ``'train'`` or ``'test'``.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: ``classes`` or ``split`` is unknown.
        DataError: A file is missing, cut off or of the other release.
    """

    def __init__(self, data_root: str = 'data/cifar', classes: int = 100, split: str = 'train', **kwargs: Any) -> None:
        if classes not in _RELEASES or split not in ('train', 'test'):
            raise ConfigError(
                f"{type(self).__name__}: classes is {classes!r} and split {split!r}, expected 10 or 100 and 'train' or "
                "'test'"
            )
        self.release, self.num_classes, self.split = _RELEASES[classes], classes, split
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read images and labels of the split."""
        folder = _find_folder(self.data_root, self.num_classes, self.split)
        names = os.path.join(folder, self.release.names)
        self._metainfo['classes'], self.only_numbers = _read_names(names, self.num_classes), not os.path.isfile(names)
        paths = [os.path.join(folder, name) for name in self.release.files[self.split]]
        return [sample for path in paths for sample in self._samples(path)]

    def _samples(self, path: str) -> Iterator[dict]:
        images, labels = read_records(path, self.release.label_bytes)
        if labels.max() >= self.num_classes:
            raise DataError(
                f'{path} holds the label {labels.max()}, expected 0..{self.num_classes - 1}; it is not a file of '
                f'CIFAR-{self.num_classes}, unpack {_SITE}/{self.release.archive} again'
            )
        return ({'img': image, 'gt_label': int(label)} for image, label in zip(images, labels, strict=True))


def read_records(path: str, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a binary file: records of labels, one byte each, and 3072 bytes of pixels, the red plane first.

    Args:
        path: The file.
        label_bytes: Labels of a record, the last of which is returned.

    Returns:
        Images, uint8 of shape (N, 32, 32, 3), and labels, uint8 of shape (N,).

    Raises:
        DataError: The file is unreadable, or no whole number of records long.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f'{path} cannot be read ({error}); unpack the archive again') from error
    record = label_bytes + _PIXELS
    if content.size == 0 or content.size % record:
        raise DataError(
            f'{path} has {content.size} bytes, expected a multiple of {record}; it is cut off or another kind of file, '
            'unpack the archive again'
        )
    records = content.reshape(-1, record)
    images = records[:, label_bytes:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, label_bytes - 1]


def _find_folder(data_root: str, classes: int, split: str) -> str:
    """The folder that holds all files of a split."""
    release = _RELEASES[classes]
    places = [data_root, os.path.join(data_root, release.folder)]
    for place in places:
        if all(os.path.isfile(os.path.join(place, name)) for name in release.files[split]):
            return place
    wanted = ', '.join(release.files[split])
    raise DataError(
        f'CIFAR-{classes}: {wanted} not found in {places[0]!r} or {places[1]!r}; unpack the binary version, '
        f'{_SITE}/{release.archive}, into {data_root!r}{_about_pickles(data_root, release.pickled)}'
    )


def _about_pickles(data_root: str, name: str) -> str:
    """Note that the Python release is not read, if it is in the folder."""
    places = [data_root, os.path.join(data_root, name), os.path.join(data_root, '..', name)]
    if not any(os.path.isfile(os.path.join(place, file)) for place in places for file in ('train', 'data_batch_1')):
        return ''
    return ' (found the Python version: its pickles are not read because they can run code)'


def _read_names(path: str, classes: int) -> tuple[str, ...]:
    """Names of the classes, or their numbers where the file is missing.

    Raises:
        DataError: The file has another number of names.
    """
    if not os.path.isfile(path):
        return numbers_as_names(classes)
    names = read_classes(path)
    if len(names) != classes:
        raise DataError(f'{path} has {len(names)} names, expected {classes}; unpack the archive again or remove it')
    return names
