"""Seeded, class-balanced splits of labeled data: as indices, or as a list file in the official form."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmselfsup_graft.datasets.image_sets.image_folder import ImageFolder
from mmselfsup_graft.datasets.image_sets.image_list import (
    ListEntry,
    names_of_labels,
    parse_image_list,
    read_image_list,
    stored_class_names,
)
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import whole_file

from .classes import are_numbers
from .scanning import class_folders
from .self_sup_dataset import SelfSupDataset
from .subset import shuffled_classes


def balanced_indices(
    labels: Sequence[int] | np.ndarray, per_class: int | None = None, share: float | None = None, seed: int = 0
) -> np.ndarray:
    """Choose equally many samples, or an equal share, of every class.

    The choice in a class depends only on the seed, the label and the order of its samples. Splits of one seed
    are nested: the smaller one is part of the larger.

    Args:
        labels: Class of each of the N samples.
        per_class: Samples per class.
        share: Share of each class, in (0, 1], rounded to whole samples and at least one; an alternative to
            ``per_class``.
        seed: Seed of the choice.

    Returns:
        Indices of the chosen samples, ascending, int64 of shape (K,); a data set takes them as
        ``indices=chosen.tolist()``.

    Raises:
        ConfigError: Not exactly one of ``per_class`` and ``share`` is given, or it, or the seed, is out of range.
        DataError: There are no samples, or a class has fewer than are asked for.
    """
    _check_size(per_class, share, seed)
    values = np.asarray(labels)
    if not len(values):
        raise DataError('no labeled samples to choose from')
    chosen = []
    for label, members in shuffled_classes(values, seed):
        count = per_class if share is None else max(1, round(share * len(members)))
        if count is None or count > len(members):
            raise DataError(f'class {label} has {len(members)} samples, fewer than {count}; choose fewer')
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))


def _check_size(per_class: int | None, share: float | None, seed: int) -> None:
    if (per_class is None) == (share is None):
        raise ConfigError(f'give exactly one of per_class and share; got {per_class} and {share}')
    if per_class is not None and per_class < 1:
        raise ConfigError(f'per_class is {per_class}, expected at least 1')
    if share is not None and not 0 < share <= 1:
        raise ConfigError(f'share is {share}, expected a number above 0 and up to 1 (1 % is 0.01)')
    if not 0 <= seed < 2**32:
        raise ConfigError(f'seed is {seed}, expected 0 .. 2**32 - 1')


def balanced_subset(
    dataset: SelfSupDataset, per_class: int | None = None, share: float | None = None, seed: int = 0
) -> list[int]:
    """Indices of a balanced part of a labeled data set, also of one in memory, for its argument ``indices``.

    Args:
        dataset: With labels.
        per_class, share, seed: See :func:`balanced_indices`.

    Raises:
        DataError: The data set has no labels, or a class has too few samples.
    """
    labels = dataset.labels()
    if labels is None:
        raise DataError(f'{type(dataset).__name__} has no labels, so it cannot be split by class')
    return balanced_indices(labels, per_class, share, seed).tolist()


class Labeled(NamedTuple):
    """Labeled images to choose from: paths relative to the data root with labels, and the names of the classes."""

    entries: list[ListEntry]
    classes: tuple[str, ...]


def folder_entries(data_root: str, split: str = '', **options: Any) -> Labeled:
    """Images of a folder with one sub-folder per class.

    A ``val`` or ``test`` beside a training split that has all of its classes is numbered like that.

    Args:
        data_root: Folder of the data; paths of the list are relative to it.
        split: Sub-folder to read (``train``), empty for all.
        options: Further arguments of :class:`ImageFolder`.

    Raises:
        DataError: The folder is missing or has no class folders.
    """
    dataset = ImageFolder(data_root, split=split, with_label=True, **options)
    infos = [dataset.get_data_info(number) for number in range(len(dataset))]
    entries = [ListEntry(_relative(info['img_path'], data_root), info['gt_label']) for info in infos]
    return Labeled(entries, dataset.classes or ())


def list_entries(list_file: str, data_root: str = '') -> Labeled:
    """Entries of a list file in either form; class folders of ``data_root/train``, if any, number bare names.

    Raises:
        DataError: The list is missing or malformed.
    """
    listing = read_image_list(list_file, class_folders(os.path.join(data_root, 'train')) if data_root else ())
    names = listing.classes
    if are_numbers(names):
        told = names_of_labels(listing.entries, data_root) if data_root else None
        names = stored_class_names(list_file) or told or names
    return Labeled(listing.entries, names)


def _relative(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, '/')


def dataset_entries(dataset: SelfSupDataset) -> list[ListEntry]:
    """The images of a labeled data set after taking its parts: paths relative to its root, or numbers in memory.

    Raises:
        DataError: The data set has no labels.
    """
    if dataset.labels() is None:
        raise DataError(f'{type(dataset).__name__} has no labels, so it cannot be listed by class')
    entries = []
    for number in range(len(dataset)):
        info = dataset.get_data_info(number)
        path = _relative(info['img_path'], dataset.data_root) if 'img_path' in info else str(info['number'])
        entries.append(ListEntry(path, int(info['gt_label'])))
    return entries


def image_list_text(entries: Sequence[ListEntry]) -> str:
    r"""The official form of a list: ``relative/path label`` per line, one blank between, every line ended by ``\n``.

    Raises:
        DataError: A path cannot be written in this form (a line break, or blanks at its ends).
    """
    for entry in entries:
        line = f'{entry.path} {entry.label}'
        try:
            line.encode()
            read = parse_image_list(line).entries
        except (UnicodeEncodeError, DataError):
            read = []
        if read != [entry] or '\r' in entry.path:  # files are read with universal line ends
            raise DataError(
                f'the path {entry.path!r} cannot be written into a list: it is not UTF-8 text, has a line break or '
                'begins or ends with blanks; rename the file'
            )
    return ''.join(f'{entry.path} {entry.label}\n' for entry in entries)


def write_image_list(entries: Sequence[ListEntry], path: str, overwrite: bool = False) -> None:
    """Write a list file; it appears under its name only when it is whole.

    Args:
        entries: In the order to be written, at least one.
        path: File to write; its folder is created if missing.
        overwrite: Replace a file that exists.

    Raises:
        DataError: There is nothing to write, the file exists, or a path cannot be written.
    """
    if not entries:
        raise DataError(f'{path} was not written: it would have no entry')
    if os.path.lexists(path) and not overwrite:
        raise DataError(f'{path} exists and was not changed; choose another name, or use --force to replace it')
    content = image_list_text(entries).encode()
    with whole_file(path) as file:
        file.write(content)
