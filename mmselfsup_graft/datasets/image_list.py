"""Lists of images in text files: the official form with labels and the bare names of the few-shot splits."""

import io
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.files import open_regular, why_not_regular
from mmselfsup_graft.registry import DATASETS

from .base import SelfSupDataset
from .scanning import subfolders

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

    - ``relative/path label``: the label is the last token, so paths may hold spaces.
    - ``n04235860_14959.JPEG``: stands for ``train/n04235860/n04235860_14959.JPEG``; the label is the rank of the
      folder among the sorted ``class_folders``, or among the folders of the list if none are given.

    Line ends may be LF or CRLF, the last one may be missing, blank lines at the end are ignored.

    Args:
        text: Content of the list.
        source: Name of the list for error messages.
        class_folders: Names of all class folders, in any order.

    Raises:
        DataError: The list is empty, or a line is malformed (its number is named).
    """
    lines = text.rstrip().split('\n')
    if lines == ['']:
        raise DataError(f'{source} is empty; expected one image per line')
    if _BARE_NAME.fullmatch(lines[0].strip()):
        return _parse_bare(lines, source, class_folders)
    entries = [_parse_labelled(line, f'{source}, line {number}') for number, line in enumerate(lines, 1)]
    return ImageListing(entries, tuple(map(str, range(1 + max(entry.label for entry in entries)))))


def _parse_labelled(line: str, where: str) -> ListEntry:
    tokens = line.strip().rsplit(None, 1)
    if len(tokens) != 2 or not _LABEL.fullmatch(tokens[1]):
        raise DataError(f'{where}: {line.strip()!r} is malformed; expected "relative/path label" with label >= 0')
    return ListEntry(tokens[0], int(tokens[1]))


def _parse_bare(lines: list[str], source: str, class_folders: Sequence[str]) -> ImageListing:
    matches = [_BARE_NAME.fullmatch(line.strip()) for line in lines]
    folders = []
    for number, (line, match) in enumerate(zip(lines, matches, strict=True), 1):
        if match is None:
            raise DataError(f'{source}, line {number}: {line.strip()!r} is malformed; expected a name like the first')
        folders.append(match[1])
    classes = tuple(sorted(set(class_folders) or set(folders)))
    rank = {name: label for label, name in enumerate(classes)}
    entries = []
    for number, (line, folder) in enumerate(zip(lines, folders, strict=True), 1):
        if folder not in rank:
            raise DataError(f'{source}, line {number}: there is no folder train/{folder} of {line.strip()!r}')
        entries.append(ListEntry(f'train/{folder}/{line.strip()}', rank[folder]))
    return ImageListing(entries, classes)


def read_image_list(path: str, class_folders: Sequence[str] = ()) -> ImageListing:
    """Read and parse a list file, see :func:`parse_image_list`.

    Raises:
        DataError: The file is missing, is no UTF-8 text or is malformed.
    """
    try:
        with io.TextIOWrapper(open_regular(path), encoding='utf-8-sig') as file:
            text = file.read()
    except OSError as error:
        raise DataError(f'list {path!r} cannot be read ({error.strerror}); check ann_file') from error
    except UnicodeDecodeError as error:
        raise DataError(f'list {path!r} is no UTF-8 text; expected one image per line') from error
    return parse_image_list(text, path, class_folders)


def listed_samples(listing: ImageListing, root: str, source: str) -> list[dict]:
    """Return the samples of a list whose paths are relative to ``root``.

    Raises:
        DataError: The first image is missing: that is a wrong root, not a damaged image.
    """
    first = os.path.join(root, listing.entries[0].path)
    reason = why_not_regular(first)
    if reason is not None:
        raise DataError(f'{first!r}, the first image of {source}, {reason}; check data_root')
    return [{'img_path': os.path.join(root, path), 'gt_label': label} for path, label in listing.entries]


@DATASETS.register_module()
class ImageList(SelfSupDataset):
    """The images of a list file in one of the two forms of :func:`parse_image_list`.

    Args:
        data_root: Folder that the paths of the list are relative to. For bare names, the class folders are those of
            ``data_root/train``.
        ann_file: List file, absolute or relative to ``data_root`` or, if not there, to the working folder.
        kwargs: Arguments of :class:`SelfSupDataset`.

    Raises:
        DataError: The list is missing or malformed, or its first image does not exist.
    """

    def __init__(self, data_root: str, ann_file: str, **kwargs: Any) -> None:
        inside = os.path.join(data_root, ann_file)  # ann_file itself if absolute
        self.list_file = next((path for path in (inside, ann_file) if os.path.isfile(path)), None) or ann_file
        if not os.path.isfile(self.list_file):
            raise DataError(
                f'list {ann_file!r} is neither there nor at {inside!r}; check ann_file (docs/data.md says what the '
                'public lists are and how to make one)'
            )
        super().__init__(data_root=data_root, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images with their labels."""
        listing = read_image_list(self.list_file, subfolders(os.path.join(self.data_root, 'train')))
        self._metainfo.setdefault('classes', listing.classes)
        return listed_samples(listing, self.data_root, self.list_file)
