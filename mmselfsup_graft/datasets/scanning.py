"""Finding image files below a folder."""

import logging
import os
from collections.abc import Iterator, Sequence

from mmengine.logging import print_log

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.files import why_not_regular

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')
_NAMED = 5


def scan_images(folder: str, extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[str]:
    """List the images below ``folder``, see :func:`find_files`.

    Raises:
        DataError: ``folder`` is missing, may not be read or holds no image.
    """
    if not os.path.isdir(folder):
        raise DataError(f'image folder {folder!r} does not exist; create or link it, or set data_root')
    found = find_files(folder, extensions)
    if not found:
        raise DataError(f'no image below {folder!r}; accepted extensions: {", ".join(extensions)}')
    return found


def find_files(folder: str, extensions: Sequence[str], report: bool = True) -> list[str]:
    """List regular files below ``folder`` at any depth, as sorted paths relative to it with ``/`` between the parts.

    Symbolic links are followed. Hidden entries are left out. So are links to nothing, links in a loop, folders inside
    themselves by a link, and pipes, sockets and devices with such a name: one warning counts them and names the first.

    Args:
        folder: Where to look.
        extensions: Accepted ends of names, compared without regard to case.
        report: Warn of what is left out.

    Raises:
        DataError: A folder may not be read.
    """
    left_out: list[str] = []
    try:
        found = sorted(_walk(folder, tuple(extension.lower() for extension in extensions), left_out))
    except OSError as error:
        raise DataError(f'{error.filename!r} cannot be listed ({error.strerror}); check its permissions') from error
    if left_out and report:
        more = ' ...' if len(left_out) > _NAMED else ''
        text = f'{len(left_out)} entries below {folder!r} are left out: {", ".join(sorted(left_out)[:_NAMED])}{more}'
        print_log(text, logger='current', level=logging.WARNING)
    return found


def _walk(folder: str, endings: tuple[str, ...], left_out: list[str]) -> Iterator[str]:
    """Yield the files below ``folder``; ``left_out`` gets what is none, and why."""
    waiting: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [(folder, '', ())]
    while waiting:
        place, prefix, ancestors = waiting.pop()
        status = os.stat(place)
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            left_out.append(f'{prefix[:-1]!r} is a link to a folder above it')
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith('.'):
                    continue
                path, is_wanted = prefix + entry.name, entry.name.lower().endswith(endings)
                if _is_folder(entry):
                    waiting.append((entry.path, f'{path}/', (*ancestors, identity)))
                elif is_wanted or entry.is_symlink():
                    reason = _why_not_regular(entry)
                    if reason is not None:
                        left_out.append(f'{path!r} {reason}')
                    elif is_wanted:
                        yield path


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a loop
        return False


def _why_not_regular(entry: os.DirEntry) -> str | None:
    """As :func:`why_not_regular`, mostly without asking the file system again."""
    return None if entry.is_file(follow_symlinks=False) else why_not_regular(entry.path)


def subfolders(folder: str) -> list[str]:
    """Return the sorted names of the folders in ``folder`` but for hidden ones; none if it does not exist."""
    if not os.path.isdir(folder):
        return []
    return sorted(entry.name for entry in os.scandir(folder) if _is_folder(entry) and not entry.name.startswith('.'))
