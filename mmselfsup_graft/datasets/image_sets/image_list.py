"""Lists of images in text files: the official form with labels, or bare names as in the few-shot splits."""

import io
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmselfsup_graft.datasets.classes import are_numbers, given_classes, numbers_as_names
from mmselfsup_graft.datasets.layout import is_split
from mmselfsup_graft.datasets.scanning import class_folders
from mmselfsup_graft.datasets.self_sup_dataset import SelfSupDataset
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.registry import DATASETS
from mmselfsup_graft.utils.files import open_regular, read_json, why_not_regular

_BARE_NAME = re.compile(r'(n\d{8})_[^/\s]+\.\w+')
_LABEL = re.compile(r'\d+')


class ListEntry(NamedTuple):
    """One line of a list: path relative to the data root and number of the class."""

    path: str
    label: int


class ImageListing(NamedTuple):
    """A parsed list; ``classes`` are names of folders for bare names and numbers as text otherwise."""

    entries: list[ListEntry]
    classes: tuple[str, ...]


def parse_image_list(text: str, source: str = 'list', class_folders: Sequence[str] = ()) -> ImageListing:
    """Parse a list in one of two forms; the first line decides which, and all lines must be of it.

    - ``relative/path label``: the label is the last token, so paths may contain spaces.
    - ``n04235860_14959.JPEG``: means ``train/n04235860/n04235860_14959.JPEG``; the label is the rank of the
      folder among the sorted ``class_folders``, or among the folders of the list if none are given.

    Line ends may be LF or CRLF, the last one may be missing, blank lines at the end are ignored. Lines that begin with
    ``#`` are comments.

    Args:
        text: Content of the list.
        source: Name of the list for error messages.
        class_folders: Names of all class folders, in any order.

    Raises:
        DataError: The list is empty, or a line is malformed (its number is named).
    """
    numbered = list(enumerate(text.rstrip().split('\n'), 1))
    lines = [(number, line.strip()) for number, line in numbered if not line.startswith('#')]
    if not any(line for _, line in lines):
        raise DataError(f'{source} is empty; expected one image per line')
    if _BARE_NAME.fullmatch(lines[0][1]):
        return _parse_bare(lines, source, class_folders)
    entries = [_parse_labeled(line, f'{source}, line {number}') for number, line in lines]
    return ImageListing(entries, numbers_as_names(1 + max(entry.label for entry in entries)))


def _parse_labeled(line: str, where: str) -> ListEntry:
    tokens = line.rsplit(None, 1)
    if len(tokens) != 2 or not _LABEL.fullmatch(tokens[1]):
        hint = ', separated by a blank, not a comma' if ',' in line else ''
        raise DataError(f'{where}: {line!r} is malformed; expected "relative/path label" with label >= 0{hint}')
    return ListEntry(tokens[0], int(tokens[1]))


def _parse_bare(lines: Sequence[tuple[int, str]], source: str, class_folders: Sequence[str]) -> ImageListing:
    folders = []
    for number, line in lines:
        match = _BARE_NAME.fullmatch(line)
        if match is None:
            raise DataError(f'{source}, line {number}: {line!r} is malformed; expected a name like the first')
        folders.append(match[1])
    classes = tuple(sorted(set(class_folders) or set(folders)))
    rank = {name: label for label, name in enumerate(classes)}
    entries = []
    for (number, line), folder in zip(lines, folders, strict=True):
        if folder not in rank:
            raise DataError(f'{source}, line {number}: folder train/{folder} of {line!r} does not exist')
        entries.append(ListEntry(f'train/{folder}/{line}', rank[folder]))
    return ImageListing(entries, classes)


def read_image_list(path: str, class_folders: Sequence[str] = ()) -> ImageListing:
    """Read and parse a list file, see :func:`parse_image_list`.

    Raises:
        DataError: The file is missing, is not UTF-8 text or is malformed.
    """
    try:
        with io.TextIOWrapper(open_regular(path), encoding='utf-8-sig') as file:
            text = file.read()
    except OSError as error:
        raise DataError(f'list {path!r} cannot be read ({error.strerror}); check ann_file') from error
    except UnicodeDecodeError as error:
        raise DataError(f'list {path!r} is not UTF-8 text; expected one image per line') from error
    return parse_image_list(text, path, class_folders)


def names_of_labels(
    entries: Sequence[ListEntry], root: str, folders: Sequence[str] | None = None
) -> tuple[str, ...] | None:
    """Return the names of the classes of a labeled list, where its paths give them.

    This requires that the labels are the ranks of the entries' class folders among the sorted folders beside them, or
    if every class has one folder of its own and all labels from 0 on occur.

    Args:
        entries: The list.
        root: Folder that its paths are relative to.
        folders: Sorted names of all class folders; ``None`` looks for them.
    """
    parts = [entry.path.split('/')[:-1] for entry in entries]
    depth = next((number for number, name in enumerate(parts[0]) if not is_split(name)), None)
    if depth is None or any(len(each) <= depth for each in parts):
        return None
    own: dict[int, set[str]] = {}
    for each, entry in zip(parts, entries, strict=True):
        own.setdefault(entry.label, set()).add(each[depth])
    if any(len(names) > 1 for names in own.values()):
        return None
    names = {label: next(iter(found)) for label, found in own.items()}
    if folders is None:
        above = {'/'.join(each[:depth]) for each in parts}
        folders = class_folders(os.path.join(root, above.pop())) if len(above) == 1 else ()
    if all(label < len(folders) and folders[label] == name for label, name in names.items()):
        return tuple(folders)
    if len(set(names.values())) == len(names) == 1 + max(names) and len(names) > 1:
        return tuple(names[label] for label in range(len(names)))
    return None


def stored_class_names(list_file: str) -> tuple[str, ...] | None:
    """Return the names of the classes from ``LIST.json``, which ``make_split.py`` writes beside its list."""
    path = f'{list_file}.json'
    if not os.path.isfile(path):
        return None
    content = read_json(path, 'remove it, or make the list again with tools/dataset_tools/make_split.py --force')
    names = content.get('classes') if isinstance(content, dict) else None
    return given_classes({'classes': names}, path) if isinstance(names, list) else None


def listed_samples(listing: ImageListing, root: str, source: str, reader: SelfSupDataset) -> list[dict]:
    """Return the samples of a list whose paths are relative to ``root``, without images that are missing.

    Args:
        listing: The list.
        root: The folder.
        source: File of the list, for messages.
        reader: The data set: it counts missing images and notes repeated lines.

    Raises:
        DataError: The first image is missing (that is a wrong root, not a damaged image), any is missing and the
            data set does not skip images, or an image has two labels.
    """
    first = os.path.join(root, listing.entries[0].path)
    reason = why_not_regular(first)
    if reason is not None:
        raise DataError(
            f'{first!r}, the first image of {source}, {reason}; check data_root, and that each line is a path, a blank '
            'and a label'
        )
    _note_repeated(listing.entries, source, reader)
    kept = []
    is_there = _Folders(root)
    for entry in listing.entries:
        if is_there(entry.path):
            kept.append({'img_path': os.path.join(root, entry.path), 'gt_label': entry.label})
        elif reader.on_corrupt == 'raise':
            raise DataError(f'{os.path.join(root, entry.path)!r} of {source} does not exist; remove its line')
        else:
            reader.left_out.add('missing', entry.path)
    return kept


def _note_repeated(entries: Sequence[ListEntry], source: str, reader: SelfSupDataset) -> None:
    labels: dict[str, int] = {}
    for path, label in entries:
        before = labels.setdefault(path, label)
        if before != label:
            raise DataError(f'{source} gives {path!r} the labels {before} and {label}; remove one of its lines')
    again = len(entries) - len(labels)
    if again:
        reader.notes.append(f'{again:,} lines repeat an image of the list')


class _Folders:
    """Whether files exist, by listing each folder once, which is faster than a check of every file."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._names: dict[str, set[str]] = {}

    def __call__(self, path: str) -> bool:
        folder, name = os.path.split(os.path.join(self.root, path))
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        return name in self._names[folder]


@DATASETS.register_module()
class ImageList(SelfSupDataset):
    """The images of a list file in one of the two forms of :func:`parse_image_list`.

    Args:
        data_root: Folder that the paths of the list are relative to. For bare names, the class folders are those of
            ``data_root/train``.
        ann_file: List file, absolute, or relative to ``data_root`` or the working folder; or ``zoo:NAME``.
        kwargs: Arguments of :class:`SelfSupDataset`. The classes of labels that are numbers get the names in
            ``LIST.json``, which ``make_split.py`` writes, or those that the paths give (:func:`names_of_labels`), or
            those of ``metainfo=dict(classes=...)``; otherwise they are named by their numbers.

    Raises:
        DataError: The list is missing or malformed, or its first image does not exist.
    """

    def __init__(self, data_root: str, ann_file: str, **kwargs: Any) -> None:
        ann_file = resolve_zoo(ann_file)
        inside = os.path.join(data_root, ann_file)  # ann_file itself if absolute
        self.list_file = next((path for path in (inside, ann_file) if os.path.isfile(path)), None) or ann_file
        if not os.path.isfile(self.list_file):
            raise DataError(
                f'list {ann_file!r} was not found, nor {inside!r}; check ann_file (docs/data.md lists the '
                'public lists and how to make one)'
            )
        super().__init__(data_root=data_root, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their labels."""
        folders = class_folders(os.path.join(self.data_root, 'train'))
        listing = read_image_list(self.list_file, folders)
        names = listing.classes
        if are_numbers(names):
            known = stored_class_names(self.list_file) or names_of_labels(listing.entries, self.data_root)
            names, self.only_numbers = known or names, known is None
        self._metainfo['classes'] = names
        return listed_samples(listing, self.data_root, self.list_file, self)
