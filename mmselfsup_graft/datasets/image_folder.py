"""Any folder of images, labelled by its sub-folders or not at all."""

import os
from collections.abc import Sequence
from typing import Any

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS

from .base import SelfSupDataset
from .part import held_out
from .scanning import IMAGE_EXTENSIONS, scan_images


@DATASETS.register_module()
class ImageFolder(SelfSupDataset):
    """All images below ``data_root/split``, at any depth, links followed, in the order of their paths.

    Args:
        data_root: Folder of the data.
        split: Sub-folder to read, empty for all.
        with_label: ``True``: the first sub-folder of each image is its class. ``False``: no labels. ``'auto'``:
            labels if every image lies in a sub-folder and there are at least two.
        extensions: Accepted ends of file names, compared without regard to case.
        subset: ``'all'``, or one side of a fixed random split of every class (of the whole folder if unlabelled):
            ``'test'`` is a share ``holdout`` of the images, ``'train'`` the rest.
        holdout: Share of ``'test'``, in (0, 1); at least one image of each class goes to either side. A class with a
            single image stays in ``'train'``.
        kwargs: Arguments of :class:`SelfSupDataset`. ``metainfo=dict(classes=...)`` fixes the classes and their
            order; otherwise they are the sorted names of the sub-folders that hold an image.

    Raises:
        ConfigError: ``with_label`` or ``subset`` is unknown or ``holdout`` no share.
        DataError: The folder is missing, holds no image, or labels are asked for where there are none.
    """

    def __init__(
        self,
        data_root: str,
        split: str = '',
        with_label: bool | str = 'auto',
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        subset: str = 'all',
        holdout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        if subset not in ('all', 'train', 'test') or not 0 < holdout < 1:
            raise ConfigError(
                f"{type(self).__name__}: subset is {subset!r} and holdout {holdout!r}, expected 'all', 'train' or "
                "'test' and a share between 0 and 1"
            )
        if with_label not in (True, False, 'auto'):
            raise ConfigError(f"{type(self).__name__}: with_label is {with_label!r}, expected True, False or 'auto'")
        self.split = split
        self.with_label = with_label
        self.extensions = tuple(extensions)
        self.subset = subset
        self.holdout = holdout
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images and, if labelled, their labels."""
        folder = os.path.join(self.data_root, self.split)
        paths = self.scan(folder)
        samples: list[dict] = [{'img_path': os.path.join(folder, path)} for path in paths]
        if self._is_labelled(folder, paths):
            for sample, label in zip(samples, self._label(folder, paths), strict=True):
                sample['gt_label'] = label
        if self.subset == 'all':
            return samples
        is_test = held_out([sample.get('gt_label', 0) for sample in samples], self.holdout)
        return [sample for sample, test in zip(samples, is_test, strict=True) if test == (self.subset == 'test')]

    def scan(self, folder: str) -> list[str]:
        """Return the sorted paths of the images below ``folder``, relative to it."""
        return scan_images(folder, self.extensions)

    def _is_labelled(self, folder: str, paths: list[str]) -> bool:
        if self.with_label is False:
            return False
        loose = next((path for path in paths if '/' not in path), None)
        if self.with_label == 'auto':
            return loose is None and len({class_of(path) for path in paths}) >= 2
        if loose is not None:
            raise DataError(f'{os.path.join(folder, loose)} lies in no class folder; move it or set with_label=False')
        return True

    def _label(self, folder: str, paths: list[str]) -> list[int]:
        names = self.classes or tuple(sorted({class_of(path) for path in paths}))
        self._metainfo['classes'] = names
        return label_paths(folder, paths, names)


def class_of(path: str) -> str:
    """Return the first folder of a relative path."""
    return path.split('/', 1)[0]


def label_paths(folder: str, paths: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the number of each path's class.

    Raises:
        DataError: A path lies in a folder that is no class.
    """
    number = {name: label for label, name in enumerate(classes)}
    unknown = next((path for path in paths if class_of(path) not in number), None)
    if unknown is not None:
        raise DataError(f'{os.path.join(folder, unknown)}: {class_of(unknown)!r} is none of the {len(number)} classes')
    return [number[class_of(path)] for path in paths]
