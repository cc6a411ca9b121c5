"""Information about the samples of a data set: labels, class names, skipped files."""

import logging
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, force_full_init

from mmselfsup_graft.errors import DataError

from .classes import naming, numbers_as_names, renumbering
from .skipped_files import LeftOut, log_once
from .subset import Part, take_parts

_COUNTED = 10  # classes whose images are counted one by one in a description


class LabeledDataset(BaseDataset):
    """mmengine's data set with labels numbered by a list of class names, and a description of its content.

    A subclass sets the attributes below before ``super().__init__``. Its ``load_data_list`` puts the names of the
    classes, in the order of its labels, into ``self._metainfo['classes']``; without it they are named by their numbers.
    It counts skipped files in ``self.left_out``, and appends other remarks to ``self.notes``.

    Attributes:
        given: The list of classes that the user gave, or None.
        parts: Shares to take of the samples.
        max_left_out: Share of the files or lines that may be left out.
        left_out: What was left out.
        notes: Further remarks.
        num_found: Images that were found, where ``load_data_list`` returns only a part of them.
        only_numbers: Whether ``self._metainfo['classes']`` holds numbers because the data has no names.
    """

    given: tuple[str, ...] | None
    parts: Sequence[Part]
    max_left_out: float
    left_out: LeftOut
    notes: list[str]
    only_numbers = False
    num_found = 0
    _labels: np.ndarray | None = None

    def filter_data(self) -> list[dict]:
        """Check that the data set is not empty and skipped few files; number the labels; take the requested parts."""
        owner = f'{type(self).__name__} {self.data_root!r}' if self.data_root else type(self).__name__
        if not self.data_list:
            also = f'. {self.left_out.text()}' if len(self.left_out) else ''
            raise DataError(f'{type(self).__name__}: no samples in {self.data_root!r}; check the path{also}')
        self.left_out.check(max(self.num_found, len(self.data_list)), self.max_left_out, owner)
        for note in self.notes:
            log_once(f'{owner}: {note}', logging.INFO)
        for number, sample in enumerate(self.data_list):
            if 'img_path' not in sample:
                sample['number'] = number  # its number in the full list of images
        self._name_classes(owner)
        return take_parts(self.data_list, self.parts, type(self).__name__)

    def _name_classes(self, owner: str) -> None:
        labels = [sample['gt_label'] for sample in self.data_list if 'gt_label' in sample]
        if not all(isinstance(label, int | np.integer) for label in labels):
            return  # not single integers, e.g. several labels per image: not renumbered
        used = set(labels)
        own = self._metainfo.get('classes')
        if not used:
            if self.given is not None:
                self._metainfo['classes'] = self.given
            return
        if min(used) < 0 or (own is not None and max(used) >= len(own)):
            raise DataError(
                f'{owner}: labels reach from {min(used)} to {max(used)}, expected 0 to {len(own or ()) - 1}'
            )
        only_numbers = self.only_numbers or own is None
        own = numbers_as_names(1 + int(max(used))) if own is None else tuple(own)
        if len(labels) == len(self.data_list):
            self._metainfo['classes'] = own
        if self.given is not None and self.given != own:
            _relabel(self.data_list, naming(own, self.given, used, owner, only_numbers))
            self._metainfo['classes'] = self.given

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """Pickle all samples into one array; returns it with the end of each sample.

        Unlike mmengine's, it runs no garbage collection, which takes 0.3 s when all libraries are imported: the samples
        are not part of a reference cycle, so reference counting frees them.
        """
        if all(isinstance(sample.get('gt_label', 0), int) for sample in self.data_list):
            self._labels = _labels_of(self.data_list)
        pickled = [np.frombuffer(pickle.dumps(sample, protocol=4), dtype=np.uint8) for sample in self.data_list]
        self.data_list.clear()
        return np.concatenate(pickled), np.cumsum([len(each) for each in pickled])

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the labels, ``None`` if unlabeled."""
        names = self._metainfo.get('classes')
        return None if names is None else tuple(names)

    @force_full_init
    def labels(self) -> np.ndarray | None:
        """Return the labels of all samples, int64 of shape (N,), or ``None`` if a sample has none."""
        if self._labels is None:
            self._labels = _labels_of(self.get_data_info(idx) for idx in range(len(self)))
        return self._labels

    @force_full_init
    def use_classes(self, classes: Sequence[str], owner: str = 'this data set') -> None:
        """Number the labels by another list of classes, in place; classes are found by name.

        Must be called before worker processes start.

        Args:
            classes: Names in the order of the new labels.
            owner: Name of this data set in messages.

        Raises:
            DataError: A class that has images here is not in the list.
        """
        wanted, labels = tuple(classes), self.labels()
        if labels is None or self.classes is None or self.classes == wanted:
            return
        new = renumbering(self.classes, wanted, np.unique(labels).tolist(), owner)
        self._metainfo['classes'] = wanted
        if any(number != label for label, number in new.items()):
            samples = [self.get_data_info(idx) for idx in range(len(self))]
            for sample in samples:
                del sample['sample_idx']
            _relabel(samples, new)
            self.data_list = samples
            if self.serialize_data:
                self.data_bytes, self.data_address = self._serialize_data()
            self._reset_shared()

    def _reset_shared(self) -> None:
        """Reset the state that depends on the list of samples."""
        self._labels = None

    def describe(self, with_names: bool = True) -> str:
        """One-line description: images, classes, skipped files, with the names of the first ones or without."""
        self.full_init()
        ignored = self.left_out.text() if with_names else self.left_out.short()
        parts = [f'{len(self):,} images', self._classes_in_words(), ignored, *self.notes]
        return ', '.join(part for part in parts if part)

    def _classes_in_words(self) -> str:
        labels, names = self.labels(), self.classes
        if labels is None or names is None:
            some = sum('gt_label' in self.get_data_info(idx) for idx in range(len(self)))
            return f'{some:,} of them labeled' if some else 'no labels'
        counts = np.bincount(labels, minlength=len(names))
        text = f'{len(names)} class{"es" if len(names) > 1 else ""}'
        if len(names) <= _COUNTED:
            return f'{text} ({", ".join(f"{name} {count:,}" for name, count in zip(names, counts))})'
        lacking = [name for name, count in zip(names, counts) if not count]
        without = f', {len(lacking)} of them without an image ({", ".join(lacking[:3])} …)' if lacking else ''
        return f'{text} ({counts[counts > 0].min():,} to {counts.max():,} images each{without})'


def _labels_of(samples: Iterable[dict[str, Any]]) -> np.ndarray | None:
    values = [sample.get('gt_label') for sample in samples]
    return None if None in values else np.array(values, dtype=np.int64)


def _relabel(samples: Iterable[dict[str, Any]], numbers: dict[int, int]) -> None:
    for sample in samples:
        if 'gt_label' in sample:
            sample['gt_label'] = numbers[sample['gt_label']]
