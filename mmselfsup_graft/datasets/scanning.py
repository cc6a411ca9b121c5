"""Finding image files below a folder."""

import os
from collections.abc import Iterator, Sequence

from mmselfsup_graft.errors import DataError

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')


def scan_images(folder: str, extensions: Sequence[str] = IMAGE_EXTENSIONS) -> list[str]:
    """List the images below ``folder`` at any depth, as sorted paths relative to it with ``/`` between the parts.

    Symbolic links are followed (a link to a folder that contains it is not). Hidden entries and dead links are left
    out. The extension is compared without regard to case.

    Raises:
        DataError: ``folder`` is missing, may not be read or holds no image.
    """
    if not os.path.isdir(folder):
        raise DataError(f'image folder {folder!r} does not exist; create or link it, or set data_root')
    wanted = tuple(extension.lower() for extension in extensions)
    try:
        found = sorted(path for path in _walk(folder, '', ()) if path.lower().endswith(wanted))
    except OSError as error:
        raise DataError(f'{error.filename!r} cannot be listed ({error.strerror}); check its permissions') from error
    if not found:
        raise DataError(f'no image below {folder!r}; accepted extensions: {", ".join(wanted)}')
    return found


def _walk(folder: str, prefix: str, ancestors: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield the files below ``folder``, each behind ``prefix``; ``ancestors`` guards against circular links."""
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f'{prefix}{entry.name}/', (*ancestors, identity))
            elif entry.is_file():
                yield prefix + entry.name


def subfolders(folder: str) -> list[str]:
    """Return the sorted names of the folders in ``folder`` but for hidden ones; none if it does not exist."""
    if not os.path.isdir(folder):
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith('.'))
