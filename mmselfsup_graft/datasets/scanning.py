"""Finding image files below a folder, and counting what is left out."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import why_not_regular

from .skipped_files import LeftOut

#: extensions of image files that Pillow reads without other programs
IMAGE_EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.apng', '.bmp', '.dib', '.ppm', '.pgm', '.pbm', '.pnm'),
    *('.tif', '.tiff', '.webp', '.gif', '.avif', '.jp2', '.j2k', '.jpf', '.jpx', '.tga', '.qoi'),
)
# Files next to images that are not images: lists, labels, notes, system files.
_BESIDE = (
    *('.txt', '.json', '.jsonl', '.csv', '.tsv', '.xml', '.yaml', '.yml', '.md', '.rst', '.html', '.log', '.toml'),
    *('.ini', '.cfg', '.py', '.sh', '.ipynb', '.sha256', '.md5', '.cls', '.index', '.lnk', '.url'),
)
_COMPANION_NAMES = {
    'thumbs.db',
    'readme',
    'licence',
    'license',
    'notice',
    'sha256sums',
    'md5sums',
    'checksums',
    'icon\r',
}
_OF_SYSTEMS = {'__macosx', '@eadir', '$recycle.bin', 'system volume information', 'lost+found'}


_HIDDEN, _LINK_UPWARDS = 'hidden', 'link to a folder above it'


class Scan(NamedTuple):
    """The files below a folder.

    Attributes:
        paths: The images, sorted, relative to the folder with ``/`` between the parts.
        left_out: Files that were not taken.
        empty: Sorted sub-folders of the folder itself that hold no image.
    """

    paths: list[str]
    left_out: LeftOut
    empty: list[str]


class Entry(NamedTuple):
    """A file below a folder: its relative path, or the skipped entry and the reason."""

    path: str
    reason: str = ''


def normalized_extensions(extensions: Sequence[str] | str) -> tuple[str, ...]:
    """Return extensions in lower case, each with its dot; a text is one extension, an empty one matches every name.

    Raises:
        ConfigError: There is none, or one is not a text.
    """
    given = (extensions,) if isinstance(extensions, str) else tuple(extensions)
    if not given or not all(isinstance(each, str) for each in given):
        raise ConfigError(f"extensions is {extensions!r}, expected one or more extensions such as '.png'")
    return tuple(each.lower() if not each or each.startswith('.') else f'.{each.lower()}' for each in given)


def is_companion_file(name: str) -> bool:
    """Whether a file is a usual companion of images: a list, labels, a note, a system file."""
    name = name.lower()
    return name in _COMPANION_NAMES or name.endswith(_BESIDE)


def scan_folder(folder: str, extensions: Sequence[str] | str = IMAGE_EXTENSIONS) -> Scan:
    """Find the images below ``folder`` at any depth.

    Symbolic links are followed. Hidden entries, links to nothing, in a loop or to a folder that contains them, pipes,
    sockets, devices and files with other extensions are left out and counted; lists, labels and the like
    (:func:`is_companion_file`) are not counted. With ``extensions`` of one's own, other files are left out as asked
    for. The case of extensions does not matter.

    Raises:
        ConfigError: ``extensions`` is empty.
        DataError: ``folder`` is missing, may not be read or holds no image.
    """
    wanted = normalized_extensions(extensions)
    if not os.path.isdir(folder):
        raise DataError(f'image folder {folder!r} does not exist; create or link it, or set data_root')
    found, others = [], []
    for entry in _entries(folder):
        if not entry.reason and entry.path.lower().endswith(wanted):
            found.append(entry.path)
        else:
            others.append(entry)
    found.sort()
    left_out = _not_taken(sorted(others), wanted)
    if not found:
        also = f'; {left_out.text()}' if len(left_out) else ''
        raise DataError(f'no image below {folder!r}; accepted extensions: {", ".join(wanted)}{also}')
    holding = {path.split('/', 1)[0] for path in found}
    return Scan(found, left_out, [name for name in subfolders(folder) if name not in holding])


def _not_taken(entries: Sequence[Entry], wanted: tuple[str, ...]) -> LeftOut:
    left_out = LeftOut()
    for path, reason in entries:
        name = path.rpartition('/')[2].lower()
        if reason == _HIDDEN:
            if path.endswith('/') or name.endswith(wanted):
                left_out.add(reason, path, expected=True)
        elif reason == _LINK_UPWARDS:
            left_out.add(reason, path, expected=True)  # its content is read at its real path
        elif reason:
            if 'link' in reason or name.endswith(wanted):
                left_out.add(reason, path)
        elif not name.endswith(wanted) and not is_companion_file(name):
            expected = wanted != IMAGE_EXTENSIONS  # chosen by the user
            left_out.add(os.path.splitext(name)[1] or 'no extension', path, expected=expected)
    return left_out


def find_files(folder: str, extensions: Sequence[str]) -> list[str]:
    """List the regular files below ``folder`` with one of the extensions, as sorted relative paths."""
    return sorted(path for path, reason in _entries(folder) if not reason and path.lower().endswith(tuple(extensions)))


def _entries(folder: str) -> Iterator[Entry]:
    try:
        yield from _walk(folder)
    except OSError as error:
        raise DataError(f'{error.filename!r} cannot be listed ({error.strerror}); check its permissions') from error


def _walk(folder: str) -> Iterator[Entry]:
    """Yield the entries below ``folder``, each with its relative path."""
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(folder, '', ())]
    while waiting:
        place, prefix, ancestors = waiting.pop()
        status = os.stat(place)
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            yield Entry(prefix, _LINK_UPWARDS)
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                path = prefix + entry.name
                if is_hidden(entry.name):
                    yield Entry(f'{path}/' if _is_folder(entry) else path, _HIDDEN)
                elif _is_folder(entry):
                    waiting.append((entry.path, f'{path}/', (*ancestors, identity)))
                else:
                    yield Entry(path, _why_not_regular(entry))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop
        return False


def _why_not_regular(entry: os.DirEntry) -> str:
    """As :func:`why_not_regular`, mostly without another file system call; empty for a regular file."""
    return '' if entry.is_file(follow_symlinks=False) else (why_not_regular(entry.path) or '').removeprefix('is a ')


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or belongs to a system or an archiver."""
    return name.startswith('.') or name.lower() in _OF_SYSTEMS


def subfolders(folder: str) -> list[str]:
    """Return the sorted names of the folders in ``folder`` but for hidden ones; none if it does not exist."""
    if not os.path.isdir(folder):
        return []
    return sorted(entry.name for entry in os.scandir(folder) if _is_folder(entry) and not is_hidden(entry.name))


def class_folders(folder: str, extensions: Sequence[str] | str = IMAGE_EXTENSIONS) -> tuple[str, ...]:
    """Return the sorted names of the folders in ``folder`` that hold an image; each is searched until the first one."""
    wanted = normalized_extensions(extensions)
    return tuple(
        name
        for name in subfolders(folder)
        if any(not reason and path.lower().endswith(wanted) for path, reason in _entries(os.path.join(folder, name)))
    )
