"""The part of a file that has arrived so far: our own file, never one that a link leads to."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.utils.files import write_all, writing


def size_of(part: Path) -> int:
    """Bytes that are there. Whatever else has the name, a link or a pipe, is removed: it is not ours.

    Raises:
        CheckpointError: A folder has the name.
    """
    try:
        state = part.lstat()
    except FileNotFoundError:
        return 0
    if stat.S_ISDIR(state.st_mode):
        raise CheckpointError(f'{part} is a folder; remove it')
    if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
        return state.st_size
    part.unlink()
    return 0


@contextmanager
def append_to(part: Path, start: int) -> Iterator[Callable[[bytes], None]]:
    """Cut the part to ``start`` bytes and write behind them.

    Nothing waits in a buffer: what was written is there however this process ends.

    Yields:
        A function that writes.

    Raises:
        DiskFullError: The disk is full.
    """
    size_of(part)
    with writing(part):
        # a link that takes the place meanwhile is not followed
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(handle, 'wb', buffering=0) as file:
            file.truncate(start)
            file.seek(start)
            yield lambda content: write_all(file, content)
            os.fsync(handle)
