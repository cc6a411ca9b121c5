"""Any folder of images, labeled by its sub-folders or not at all."""

import os
from collections.abc import Sequence
from typing import Any

from mmselfsup_graft.datasets.classes import shown
from mmselfsup_graft.datasets.layout import are_dates, refuse_no_classes, training_names
from mmselfsup_graft.datasets.scanning import IMAGE_EXTENSIONS, Scan, class_folders, normalized_extensions, scan_folder
from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.datasets.subset import held_out
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS


@DATASETS.register_module()
class ImageFolder(SelfSupDataset):
    """All images below ``data_root/split``, at any depth, links followed, in the order of their paths.

    Args:
        data_root: Folder of the data.
        split: Sub-folder to read, empty for all.
        with_label: ``True``: the first sub-folder of each image is its class. ``False``: no labels. ``'auto'``:
            labels if every image lies in a sub-folder and there are at least two, unless they are dates.
        extensions: Accepted file extensions, case-insensitive; a text is a single extension.
        subset: ``'all'``, or one side of a fixed random split of every class (of the whole folder if unlabeled):
            ``'test'`` is a share ``holdout`` of the images, ``'train'`` the rest.
        holdout: Share of ``'test'``, in (0, 1); at least one image of each class is on each side. A class with a
            single image stays in ``'train'``.
        any_folder_is_class: Treat folders as classes even if they look like splits (``train`` and ``val``), like
            pictures and their annotations (``images`` and ``labels``), or like dates.
        kwargs: Arguments of :class:`SelfSupDataset`. ``metainfo=dict(classes=...)`` fixes the classes and their
            order. Otherwise they are the sorted names of the sub-folders that hold an image; those of ``train`` for a
            sibling ``val`` or ``test``, if ``train`` has all of them.

    Raises:
        ConfigError: ``with_label`` or ``subset`` is unknown, ``holdout`` no share or ``extensions`` empty.
        DataError: The folder is missing, holds no image, its sub-folders are not classes, or labels are requested but
            missing.
    """

    def __init__(
        self,
        data_root: str,
        split: str = '',
        with_label: bool | str = 'auto',
        extensions: Sequence[str] | str = IMAGE_EXTENSIONS,
        subset: str = 'all',
        holdout: float = 0.2,
        any_folder_is_class: bool = False,
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
        self.extensions = normalized_extensions(extensions)
        self.subset = subset
        self.holdout = holdout
        self.any_folder_is_class = any_folder_is_class
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images and, if labeled, their labels."""
        folder = os.path.join(self.data_root, self.split)
        found = self.scan(folder)
        self.left_out.update(found.left_out)
        self.num_found = len(found.paths)
        samples: list[dict] = [{'img_path': os.path.join(folder, path)} for path in found.paths]
        if self._is_labeled(folder, found):
            self._note_folders(found)
            names = self._names(folder, found.paths)
            self._metainfo['classes'] = names
            for sample, label in zip(samples, label_paths(folder, found.paths, names), strict=True):
                sample['gt_label'] = label
        if self.subset == 'all':
            return samples
        is_test = held_out([sample.get('gt_label', 0) for sample in samples], self.holdout)
        return [sample for sample, test in zip(samples, is_test, strict=True) if test == (self.subset == 'test')]

    def scan(self, folder: str) -> Scan:
        """Find the images below ``folder``."""
        return scan_folder(folder, self.extensions)

    def training_classes(self, folder: str) -> tuple[str, ...]:
        """Return the class folders of the training split beside a held-out one; none if there is no such folder."""
        names = (class_folders(each, self.extensions) for each in training_names(folder))
        return next((each for each in names if each), ())

    def _is_labeled(self, folder: str, found: Scan) -> bool:
        if self.with_label is False:
            return False
        loose = [path for path in found.paths if '/' not in path]
        names = {class_of(path) for path in found.paths if '/' in path}
        if loose and self.with_label is True:
            raise DataError(
                f'{os.path.join(folder, loose[0])} is not in a class folder; move it or set with_label=False'
            )
        if self.with_label == 'auto':
            if loose:
                if names:
                    self.notes.append(f'read without labels: {len(loose):,} images are not in a folder ({loose[0]} …)')
                return False
            if are_dates(names) and not self.any_folder_is_class:
                self.notes.append('read without labels: the folders are dates (with_label=True uses them as classes)')
                return False
            if len(names) < 2 and len(names | set(self.training_classes(folder))) < 2:
                return False
        if not self.any_folder_is_class:
            refuse_no_classes(folder, names, found.empty)
        return True

    def _note_folders(self, found: Scan) -> None:
        if found.empty:
            more = ', …' if len(found.empty) > 3 else ''
            self.notes.append(f'{len(found.empty)} folders without an image ({", ".join(found.empty[:3])}{more})')
        deeper = sum(path.count('/') > 1 for path in found.paths)
        if deeper:
            self.notes.append(f'{deeper:,} images are below a sub-folder of their class folder')

    def _names(self, folder: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Names of the classes: of the training split, if that has all of them, else of this folder."""
        own = tuple(sorted({class_of(path) for path in paths}))
        trained = self.training_classes(folder)
        if set(own) <= set(trained):
            return trained
        if trained:
            unknown = sorted(set(own) - set(trained))
            self.notes.append(f'{len(unknown)} classes that are not in the training split ({", ".join(unknown[:3])} …)')
        return own


def class_of(path: str) -> str:
    """Return the first folder of a relative path."""
    return path.split('/', 1)[0]


def label_paths(folder: str, paths: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the number of each path's class.

    Raises:
        DataError: A path is in a folder that is not a class.
    """
    number = {name: label for label, name in enumerate(classes)}
    unknown = next((path for path in paths if class_of(path) not in number), None)
    if unknown is not None:
        raise DataError(f'{os.path.join(folder, unknown)}: {class_of(unknown)!r} is not one of the {shown(classes)}')
    return [number[class_of(path)] for path in paths]
