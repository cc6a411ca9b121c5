"""Fashion-MNIST from local files, from Debian's package or by torchvision's download."""

import gzip
import os
import zlib
from typing import Any

import numpy as np
import torchvision
from mmengine.dist import barrier, is_main_process

from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS

DEBIAN_FOLDER = '/usr/share/datasets/fashion-mnist'
_DEBIAN_PACKAGE = 'dataset-fashion-mnist'
_STEMS = {'train': 'train', 'test': 't10k'}


@DATASETS.register_module()
class FashionMNIST(SelfSupDataset):
    """Fashion-MNIST, 28x28 gray, kept in memory: 60,000 training and 10,000 test images of 10 classes.

    The four idx files, packed (``.gz``) or not, are looked for in ``data_root`` (also below it in torchvision's
    ``FashionMNIST/raw``), then where Debian's package ``dataset-fashion-mnist`` puts them. Otherwise
    torchvision downloads them to ``data_root``.

    Args:
        data_root: Folder of the files.
        split: ``'train'`` or ``'test'``.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: ``split`` is unknown.
        DataError: The files are not found and cannot be downloaded, or are malformed.
    """

    METAINFO = {'classes': tuple(torchvision.datasets.FashionMNIST.classes)}

    def __init__(self, data_root: str = 'data/fashion_mnist', split: str = 'train', **kwargs: Any) -> None:
        if split not in _STEMS:
            raise ConfigError(f"{type(self).__name__}: split is {split!r}, expected 'train' or 'test'")
        self.split = split
        self.data_root: str
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read images and labels of the split."""
        image_file, label_file = _find_files(self.data_root, _STEMS[self.split])
        self.data_root = os.path.dirname(image_file)  # where they were found
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(f'{image_file} holds {images.shape}, {label_file} {labels.shape}: the numbers differ')
        return [{'img': image, 'gt_label': int(label)} for image, label in zip(images, labels, strict=True)]


def read_idx(path: str) -> np.ndarray:
    """Read an idx file of unsigned bytes, packed if its name ends in ``.gz``.

    Layout: two zero bytes, type (8 = unsigned byte), number of dimensions, each dimension as a big-endian 32-bit
    integer, data.

    Raises:
        DataError: The file is unreadable, of another kind or cut off.
    """
    try:
        with gzip.open(path) if path.endswith('.gz') else open(path, 'rb') as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{path} cannot be read ({error}); fetch it again') from error
    start = 4 + 4 * content[3] if len(content) > 3 else 4
    if len(content) < start or content[:3] != b'\x00\x00\x08':
        raise DataError(f'{path} is not an idx file of unsigned bytes; fetch it again')
    shape = tuple(np.frombuffer(content[4:start], dtype='>u4').tolist())
    if len(content) != start + np.prod(shape):
        raise DataError(f'{path} has {len(content)} bytes, expected {start + np.prod(shape)}; fetch it again')
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _find_files(data_root: str, stem: str) -> tuple[str, str]:
    """Return image and label file of a split; download them if they are not found."""
    found = _look_for(data_root, stem)
    if found is not None:
        return found
    reason = _download(data_root)
    found = _look_for(data_root, stem)
    if found is None:
        raise DataError(
            f'Fashion-MNIST was not found in {data_root!r} or {DEBIAN_FOLDER!r} and its download failed ({reason}); '
            f'put the four idx files into {data_root!r} or install the Debian package {_DEBIAN_PACKAGE}'
        )
    return found


def _look_for(data_root: str, stem: str) -> tuple[str, str] | None:
    places = [os.path.join(data_root, *parts) for parts in ((), ('raw',), ('FashionMNIST', 'raw'))]
    for place in [*places, DEBIAN_FOLDER]:
        for ending in ('', '.gz'):
            names = [f'{stem}-images-idx3-ubyte{ending}', f'{stem}-labels-idx1-ubyte{ending}']
            images, labels = (os.path.join(place, name) for name in names)
            if os.path.isfile(images) and os.path.isfile(labels):
                return images, labels
    return None


def _download(data_root: str) -> str:
    """Download in the main process; return the reason of a failure. All processes must call it."""
    reason = 'see the main process'
    if is_main_process():
        try:
            torchvision.datasets.FashionMNIST(data_root, download=True)
        except (OSError, RuntimeError) as error:
            reason = ' '.join(str(error).split()) or type(error).__name__
    barrier()
    return reason
