"""The work directory of a run, which has one writer at a time."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from mmselfsup_graft.errors import GraftError
from mmselfsup_graft.utils.files import remove_unfinished

_LOCK = '.lock'
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: list[Path] = []


def default_work_dir(config: str | os.PathLike) -> Path:
    """Work directory of a config or recipe file where none is given: ``work_dirs/<name of the file>``."""
    return Path('work_dirs') / Path(config).stem


@contextmanager
def exclusive_work_dir(folder: str | os.PathLike) -> Iterator[None]:
    """Lock a work directory against other processes within the block.

    The main process locks the file ``.lock``, which names it, and removes it at the end, with the folder if nothing was
    written there; the system releases it when that process ends in any way. All processes of a launch call this,
    after their group is open, and all raise the error together. Unfinished files of killed runs are removed.
    Blocks of one process may be nested. On a file system without locks (some network file systems) it warns.

    Raises:
        GraftError: If another process writes there; the message names it. Also if the folder is not a folder, or its
            ``.lock`` is not an ordinary file with one name.
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
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:  # a fork that leaves the block has no lock
            _held.remove(path)
            if lock is not None:
                _remove(path)
                _close(lock)


def _take(folder: Path) -> tuple[int | None, str | None]:
    """Descriptor of the locked file, or why it cannot be locked."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _open(folder / _LOCK)
    except OSError as error:
        reason = 'is a symbolic link, expected a file' if error.errno == errno.ELOOP else error.strerror
        return None, f'{folder} cannot be used as a work directory: {error.filename}: {reason}'
    _forked.add(lock)
    problem = _file_problem(os.fstat(lock))
    if problem is not None:
        _close(lock)
        return None, f'{folder / _LOCK} {problem}, expected a file that only this toolbox writes; remove it'
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            print_log(
                f'{folder} cannot be locked ({error.strerror}): make sure that no other process writes there',
                logger='current',
                level=logging.WARNING,
            )
            return lock, None
        holder = _holder(lock)
        _close(lock)
        return None, f'{folder} is in use by another running process{holder}; wait for it or stop it'
    if not _is_there(folder / _LOCK, lock):  # its holder removed it between the two calls
        _close(lock)
        return _take(folder)
    note = {'pid': os.getpid(), 'host': socket.gethostname(), 'started': time.strftime('%Y-%m-%d %H:%M:%S')}
    os.ftruncate(lock, 0)
    os.write(lock, json.dumps(note).encode())
    remove_unfinished(folder)
    return lock, None


def _open(path: Path) -> int:
    """Open a lock without following a link or waiting for the other end of a pipe."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)


def _file_problem(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return 'is not a regular file'
    return f'has {status.st_nlink} names (hard links)' if status.st_nlink > 1 else None


def _close(lock: int) -> None:
    _forked.discard(lock)
    os.close(lock)


def _is_there(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(lock))
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    """Remove the lock, while it is held, and a folder in which nothing was written."""
    with contextlib.suppress(OSError):
        os.unlink(folder / _LOCK)
        os.rmdir(folder)


def _holder(lock: int) -> str:
    try:
        note = json.loads(os.pread(lock, 4096, 0))
        return f' (PID {note["pid"]} on {note["host"]}, since {note["started"]})'
    except (ValueError, LookupError, TypeError, OSError):  # not written so far
        return ''


# A lock belongs to the open file, which forks share: without this a data-loading worker would hold on to it for the
# seconds that it outlives a killed parent. Descriptors instead of file objects: one that is collected in the fork would
# close an unrelated file with the same number.
_forked: set[int] = set()


def _close_in_fork() -> None:
    for number in _forked:
        os.close(number)
    _forked.clear()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)
