"""Reading files of a local folder or an object store (``s3://``, ``gs://``, ``https://`` …) through fsspec."""

import errno
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import why_not_regular

_HOPELESS = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # of the local disk, not of the store


class Piece(NamedTuple):
    """Bytes ``start`` to ``end`` (excluded) of a file."""

    name: str
    start: int
    end: int


class Store:
    """The files below one address.

    Connections are per process: a forked or spawned worker opens its own.

    Args:
        root: Folder, or address as fsspec takes it.
        options: Arguments of the file system, e.g. ``dict(anon=True)`` for a public bucket.
        attempts: Number of attempts before the store counts as unreachable; a missing or forbidden file is
            not retried.
        patience: Seconds before the second attempt, doubled before each further one.

    Raises:
        ConfigError: fsspec does not know the kind of address, or its package is not installed.
    """

    def __init__(
        self, root: str, options: Mapping[str, Any] | None = None, attempts: int = 4, patience: float = 1.0
    ) -> None:
        self.root = os.fspath(root)
        self.options = dict(options or {})
        self.attempts, self.patience = attempts, patience
        self._opened: tuple[int, fsspec.AbstractFileSystem, str] | None = None
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_opened': None}

    def _open(self) -> tuple[fsspec.AbstractFileSystem, str]:
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                system, folder = url_to_fs(self.root, **self.options)
            except (ImportError, ValueError, TypeError) as error:
                raise ConfigError(
                    f'{self.root!r} cannot be opened ({error}); expected a folder or an address that fsspec supports, '
                    'with its package installed (s3fs for s3://, gcsfs for gs://, aiohttp for http://)'
                ) from error
            self._opened = os.getpid(), system, folder.rstrip('/')
        return self._opened[1:]

    @property
    def system(self) -> fsspec.AbstractFileSystem:
        """The file system, of this process."""
        return self._open()[0]

    def path(self, name: str) -> str:
        """Path of a file in :attr:`system`; ``name`` is relative to the root."""
        return f'{self._open()[1]}/{name}'

    def address(self, name: str) -> str:
        """Name of a file for messages."""
        return f'{self.root.rstrip("/")}/{name}'

    def check_regular(self, name: str) -> None:
        """Raise an error for files that would block a reader of a local folder; a missing file is not an error here.

        Raises:
            DataError: It is a pipe, a socket, a device or a folder.
        """
        path = self.path(name)
        if isinstance(self.system, LocalFileSystem) and os.path.exists(path) and (reason := why_not_regular(path)):
            raise DataError(f'{self.address(name)} {reason}, expected a regular file')

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            DataError: It is missing, or the store cannot be reached.
        """
        return self._read([name], lambda names: [self.system.cat_file(self.path(names[0]))])[0]

    def read_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Return pieces of files, requested at once where the store can serve several requests.

        Raises:
            DataError: A file is missing or ends before a piece, or the store cannot be reached.
        """
        contents = self._read(
            pieces,
            lambda some: self.system.cat_ranges(
                [self.path(piece.name) for piece in some],
                [piece.start for piece in some],
                [piece.end for piece in some],
                on_error='return',
            ),
        )
        for piece, content in zip(pieces, contents, strict=True):
            if len(content) != piece.end - piece.start:
                raise DataError(
                    f'{self.address(piece.name)} ends before byte {piece.end}; cut off, or not the archive of the index'
                )
        return contents

    def fetch(self, name: str, target: str | os.PathLike) -> None:
        """Copy a file to a local path.

        Raises:
            DataError: It is missing, or the store cannot be reached.
        """
        self._read([name], lambda names: [self.system.get_file(self.path(names[0]), os.fspath(target)) or b''])

    def _read(self, wanted: Sequence[Any], read: Any) -> list[bytes]:
        """Call ``read`` for missing items until all are read; it returns or raises exceptions."""
        for name in dict.fromkeys(each.name if isinstance(each, Piece) else each for each in wanted):
            self.check_regular(name)
        results: list[Any] = [None] * len(wanted)
        missing = list(range(len(wanted)))
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.patience * 2 ** (attempt - 1))
            try:
                answers = read([wanted[number] for number in missing])
            except Exception as error:  # every library of a store has its own exceptions
                answers = [error] * len(missing)
            for number, answer in zip(missing, answers, strict=True):
                results[number] = answer
            missing = [number for number in missing if isinstance(results[number], Exception)]
            if not missing or any(isinstance(results[number], _HOPELESS) for number in missing):
                break
        if missing:
            number = next((number for number in missing if isinstance(results[number], _HOPELESS)), missing[0])
            self._fail(wanted[number], results[number])
        return results

    def _fail(self, what: Any, error: Exception) -> None:
        if isinstance(error, ConfigError) or getattr(error, 'errno', None) in _DISK_FULL:
            raise error
        name = what.name if isinstance(what, Piece) else what
        if isinstance(error, FileNotFoundError):
            raise DataError(f'{self.address(name)} does not exist; check data_root and ann_file') from error
        reason = f'{type(error).__name__}: {error}'.rstrip(': ')
        raise DataError(
            f'{self.address(name)} cannot be read ({reason}); check the address, the connection and the permissions'
        ) from error
