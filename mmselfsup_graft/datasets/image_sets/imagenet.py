"""ImageNet (ILSVRC 2012) and folders with its layout."""

import os
from typing import Any

from mmselfsup_graft.datasets.classes import are_numbers
from mmselfsup_graft.datasets.scanning import class_folders, scan_folder, subfolders
from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS

from .image_folder import class_of, label_paths
from .image_list import listed_samples, names_of_labels, read_image_list

_LAYOUT = 'train/<wnid>/*.JPEG and val/<wnid>/*.JPEG (or val/*.JPEG with meta/val.txt)'


@DATASETS.register_module()
class ImageNet(SelfSupDataset):
    """One split of ImageNet, always labeled; the label is the rank of the wnid among the sorted folders of ``train``.

    Args:
        data_root: Folder with ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``, or a flat ``val/*.JPEG`` with
            ``meta/val.txt``.
        split: ``'train'`` or ``'val'``.
        ann_file: List of ``name label`` lines, names relative to the folder of the split, file relative to
            ``data_root``. Empty: the class folders give the labels and ``meta/val.txt`` those of a flat ``val``.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        ConfigError: ``split`` is unknown.
        DataError: Folder or list are missing, malformed or do not fit.
    """

    def __init__(
        self, data_root: str = 'data/imagenet', split: str = 'train', ann_file: str = '', **kwargs: Any
    ) -> None:
        if split not in ('train', 'val'):
            raise ConfigError(f"{type(self).__name__}: split is {split!r}, expected 'train' or 'val'")
        self.split = split
        super().__init__(data_root=data_root, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images of the split with their labels."""
        folder = os.path.join(self.data_root, self.split)
        if not os.path.isdir(folder):
            raise DataError(f'ImageNet: {folder!r} does not exist; expected below {self.data_root!r}: {_LAYOUT}')
        if self.ann_file:
            return self._from_list(folder, self.ann_file)
        if self.split == 'val' and not subfolders(folder):
            return self._from_list(folder, os.path.join(self.data_root, 'meta', 'val.txt'))
        return self._from_folders(folder)

    def _from_list(self, folder: str, list_file: str) -> list[dict]:
        listing = read_image_list(list_file)
        trained = class_folders(os.path.join(self.data_root, 'train'))
        named = names_of_labels(listing.entries, folder, trained)
        flat = all('/' not in entry.path for entry in listing.entries)
        if flat and len(trained) >= len(listing.classes):
            named = trained  # the official lists number the sorted wnids
        self._metainfo['classes'] = named or listing.classes
        self.only_numbers = not named and are_numbers(listing.classes)
        return listed_samples(listing, folder, list_file, self)

    def _from_folders(self, folder: str) -> list[dict]:
        found = scan_folder(folder)
        self.left_out.update(found.left_out)
        loose = next((path for path in found.paths if '/' not in path), None)
        if loose is not None:
            raise DataError(f'{os.path.join(folder, loose)} is not in a class folder; expected {_LAYOUT}')
        own = tuple(sorted({class_of(path) for path in found.paths}))
        trained = own if self.split == 'train' else class_folders(os.path.join(self.data_root, 'train'))
        classes = trained if set(own) <= set(trained) else own
        self._metainfo['classes'] = classes
        labels = label_paths(folder, found.paths, classes)
        return [
            {'img_path': os.path.join(folder, path), 'gt_label': label}
            for path, label in zip(found.paths, labels, strict=True)
        ]
