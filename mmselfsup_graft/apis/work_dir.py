"""A work directory has one writer at a time."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from mmselfsup_graft.errors import GraftError

_LOCK = '.lock'
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# as whole_file names them; and as checkpoints of older versions were named
_TEMPORARY = re.compile(r'\..+\.\d+-[0-9a-f]{8}\.tmp|\.(epoch|iter|best)_.*\.pth\.tmp')
_held: list[Path] = []


@contextmanager
def only_writer(folder: str | os.PathLike) -> Iterator[None]:
    """Keep every other process out of a work directory while the block runs.

    The main process locks the file ``.lock``, which names it, and removes it at the end, with the folder if nothing was
    written there; the system unlocks it when that process ends, however it ends. All processes of a launch call this,
    after their group is open, and all are refused together. Unfinished files that killed runs left are removed.
    Blocks of one process may be nested. Where the file system has no locks (some network file systems), a warning says
    so.

    Raises:
        GraftError: If another process writes there; the message names it.
    """
    path = Path(folder).resolve()
    if path in _held:
        yield
        return
    lock, refusal = _take(path) if is_main_process() else (None, None)
    answer = [refusal]
    broadcast_object_list(answer)
    if answer[0] is not None:
        raise GraftError(answer[0])
    _held.append(path)
    try:
        yield
    finally:
        _held.remove(path)
        if lock is not None:
            _forked.discard(lock.fileno())
            _remove(path)
            lock.close()


def _take(folder: Path) -> tuple[IO[str] | None, str | None]:
    """The locked file, or why it cannot be locked."""
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / _LOCK, 'a+')  # noqa: SIM115  (closed by only_writer)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_there(folder / _LOCK, file):  # its holder removed it between our two steps
            file.close()
            return _take(folder)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            print_log(
                f'{folder} cannot be locked ({error.strerror}): make sure that no other process writes there',
                logger='current',
                level=logging.WARNING,
            )
            return file, None
        holder = _holder(file)
        file.close()
        return None, f'{folder} is in use by another running process{holder}; wait for it or stop it'
    _forked.add(file.fileno())
    file.truncate(0)
    note = {'pid': os.getpid(), 'host': socket.gethostname(), 'started': time.strftime('%Y-%m-%d %H:%M:%S')}
    file.write(json.dumps(note))
    file.flush()
    _remove_unfinished(folder)
    return file, None


def _is_there(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    """Remove the lock, while it is held, and a folder in which nothing was written."""
    with contextlib.suppress(OSError):
        os.unlink(folder / _LOCK)
        os.rmdir(folder)


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        note = json.loads(file.read())
        return f' (PID {note["pid"]} on {note["host"]}, since {note["started"]})'
    except (ValueError, LookupError, TypeError, OSError):  # not written yet
        return ''


def _remove_unfinished(folder: Path) -> None:
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


# A lock belongs to the open file, which forks share: without this a data-loading worker would hold on to it for the
# seconds that it outlives a killed parent.
_forked: set[int] = set()


def _close_in_fork() -> None:
    for number in _forked:
        os.close(number)
    _forked.clear()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)
