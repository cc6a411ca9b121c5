"""Files: only regular ones are opened, writes are atomic, JSON is checked when it is read."""

import errno
import json
import os
import re
import secrets
import stat
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mmselfsup_graft.errors import DataError, DiskFullError

# names of whole_file, and of checkpoints in older versions
_UNFINISHED = re.compile(r'\..+\.\d+-[0-9a-f]{8}\.tmp|\.(epoch|iter|best)_.*\.pth\.tmp')
_MOST_OF_A_LINE = 16 * 2**20  # bytes
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# errors of torch in the process that writes, and in the one that waits for it
_SHARED_MEMORY = re.compile(
    r'unable to allocate shared memory|unable to (write to|resize) file </torch_|out of shared memory|'
    r'insufficient shared memory|killed by signal: Bus error'
)
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, 'is a folder'),
    (stat.S_ISFIFO, 'is a pipe'),
    (stat.S_ISSOCK, 'is a socket'),
    (stat.S_ISCHR, 'is a device'),
    (stat.S_ISBLK, 'is a device'),
)


# ---------------------------------------------------------------- reading
def why_not_regular(path: str | os.PathLike) -> str | None:
    """Return why a path is not a regular file, links followed; None if it is one. The file is not opened.

    Returns:
        The end of a sentence that begins with the path: ``'does not exist'``, ``'is a pipe'``, ``'is a link in a
        loop'`` …
    """
    try:
        return _kind(os.stat(path).st_mode)
    except ValueError as error:  # a NUL character
        return f'is not a path ({error})'
    except OSError as error:
        if error.errno == errno.ELOOP:
            return 'is a link in a loop'
        if isinstance(error, FileNotFoundError):
            return 'is a link to nothing' if os.path.islink(path) else 'does not exist'
        return f'cannot be opened ({error.strerror})'


def _kind(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    return next((text for test, text in _KINDS if test(mode)), 'is not a regular file')


def open_regular(path: str | os.PathLike) -> IO[bytes]:
    """Open a regular file, links followed, to read its bytes.

    A reader of a pipe could wait forever, and a device may never end: neither is opened, not even if it replaces
    a file during the call.

    Raises:
        OSError: The file does not exist, may not be read, or is a pipe, a socket, a device or a folder.
    """
    return open(path, 'rb', opener=_regular_handle)


def _regular_handle(path: str, flags: int) -> int:
    try:
        handle = os.open(path, flags | os.O_NONBLOCK)  # a pipe opens at once
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.EINVAL, f'{why_not_regular(path)}, expected a regular file', path) from error
        raise
    reason = _kind(os.fstat(handle).st_mode)
    if reason is not None:
        os.close(handle)
        raise OSError(errno.EINVAL, f'{reason}, expected a regular file', path)
    os.set_blocking(handle, True)
    return handle


def read_json(
    path: str | os.PathLike,
    advice: str = 'remove it and run the command again',
    keys: Sequence[str] = (),
    most: int | None = 64 * 2**20,
) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        advice: Advice if it is damaged; the end of the message.
        keys: Keys that the file, an object, must have.
        most: Largest size in bytes; None for no limit.

    Raises:
        DataError: It is missing, damaged, too large, or lacks a key.
    """
    try:
        with open_regular(path) as file:
            if most is not None and os.fstat(file.fileno()).st_size > most:
                raise ValueError(f'it has more than {most:,} bytes')
            content = json.loads(file.read())
    except OSError as error:
        raise DataError(f'{os.fspath(path)!r} cannot be read ({error.strerror}); {advice}') from error
    except (ValueError, RecursionError) as error:
        raise DataError(f'{os.fspath(path)!r} is damaged ({error}); {advice}') from error
    check_keys(content, keys, path, advice)
    return content


def check_keys(content: Any, keys: Sequence[str], path: str | os.PathLike, advice: str) -> None:
    """Raise an error if a part of a JSON file lacks a key or is not an object, with the message of :func:`read_json`.

    Raises:
        DataError: In that case.
    """
    missing = [key for key in keys if not (isinstance(content, Mapping) and key in content)]
    if missing:
        raise DataError(f'{os.fspath(path)!r} is damaged: {missing[0]!r} is missing; {advice}')


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read a file of one JSON object per line; an incomplete last line is skipped.

    Raises:
        DataError: It cannot be read, or another line is damaged.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        row = parse_row(line)
        if row is not None:
            rows.append(row)
        elif line.strip() and line.endswith(b'\n'):
            raise DataError(f'{os.fspath(path)!r}, line {number}, is damaged: expected a JSON object; remove that line')
    return rows


def read_lines(path: str | os.PathLike) -> Iterator[bytes]:
    """Read the lines of such a file one by one, with their ends.

    Raises:
        DataError: It cannot be read, or a line is far longer than a row is.
    """
    try:
        with open_regular(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_OF_A_LINE + 1), b''), 1):
                if len(line) > _MOST_OF_A_LINE:
                    raise DataError(
                        f'{os.fspath(path)!r}, line {number}, is damaged: it has more than {_MOST_OF_A_LINE:,} bytes; '
                        'remove that line'
                    )
                yield line
    except OSError as error:
        raise DataError(f'{os.fspath(path)!r} cannot be read ({error.strerror})') from error


def parse_row(line: bytes) -> dict[str, Any] | None:
    """The object in a line of such a file; None if it holds none, e.g. because it is cut off."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


# ---------------------------------------------------------------- writing
def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one of its causes, means that a disk is full or a quota is exceeded."""
    return any(isinstance(each, OSError) and each.errno in _FULL and not _in_semaphore(each) for each in _chain(error))


def is_shared_memory_full(error: BaseException) -> bool:
    """Whether an error, or one of its causes, is that of torch or Python for a full ``/dev/shm``."""
    return any(_SHARED_MEMORY.search(str(each)) or _in_semaphore(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _in_semaphore(error: BaseException) -> bool:
    """Whether it is raised by Python when it creates a semaphore, a file in shared memory: errno as for a full disk."""
    frames = traceback.extract_tb(error.__traceback__)
    is_full = isinstance(error, OSError) and error.errno in _FULL
    return is_full and bool(frames) and Path(frames[-1].filename).match('multiprocessing/synchronize.py')


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove unfinished files of killed writers in a folder to which no other process writes."""
    for path in Path(folder).iterdir():
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Add the name of the file or folder to the error of a full disk; other errors are not changed.

    Raises:
        DiskFullError: The disk is full.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f'{os.fspath(path)} could not be written: the disk is full; free space and run the command again'
        ) from error


@contextmanager
def whole_file(path: str | os.PathLike, overwrite: bool = True) -> Iterator[IO[bytes]]:
    """Write atomically, so that ``path`` holds either the old or the complete new file: written to a temporary file,
    synced and renamed.

    Args:
        path: The file; its folder is created if missing.
        overwrite: Replace an existing file; otherwise it is an error, also if it appears during the write.

    Yields:
        The binary file to write into.

    Raises:
        DiskFullError: The disk is full.
        FileExistsError: If the file exists and ``overwrite`` is not set.
    """
    path = Path(path)
    temporary = str(path.with_name(f'.{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp'))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(temporary, 'xb')  # noqa: SIM115  (closed below)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(path)) from None  # not the temporary name
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if overwrite:
                os.replace(temporary, path)
            else:
                _take_free_name(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _take_free_name(temporary: str, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename it fails if the name is taken
        os.unlink(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first, then fill it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.replace(temporary, path)


def write_json(path: str | os.PathLike, content: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write JSON, see :func:`whole_file`; ``default`` converts values that JSON does not support."""
    text = json.dumps(content, indent=1, default=default)
    with whole_file(path) as file:
        file.write(text.encode())


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text as UTF-8, see :func:`whole_file`."""
    with whole_file(path) as file:
        file.write(text.encode())


def append_rows(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a file of one JSON object per line, all of them or none.

    Raises:
        DiskFullError: The disk is full.
    """
    text = ''.join(json.dumps(row) + '\n' for row in rows).encode()
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'a+b', buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b'\n':
                size, text = _end_last_line(file, size, text)
            try:
                write_all(file, text)
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise


def _end_last_line(file: IO[bytes], size: int, text: bytes) -> tuple[int, bytes]:
    """Drop a last row that was cut off, by a kill for instance; a complete one gets its line end."""
    file.seek(0)
    last = file.read().rpartition(b'\n')[2]
    if parse_row(last) is not None:
        return size, b'\n' + text
    file.truncate(size - len(last))
    return size - len(last), text


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write everything; an unbuffered file may write only a part per call."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
