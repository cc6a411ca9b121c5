"""Local copies of archives of an object store, limited in bytes, shared by all processes of a machine."""

import hashlib
import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

from mmselfsup_graft.errors import ConfigError, DataError

from .stores import Piece, Store

_PATIENCE = 0.1  # seconds between two checks for finished downloads of other processes


class ShardCache:
    """Whole archives in a folder; the least recently read are removed when space is needed.

    A file appears under its name only when it is whole. Several processes may use a folder at once: each archive
    is fetched once. An archive that is removed while another process reads it stays readable to that process.

    Args:
        folder: Local folder, created if missing.
        max_bytes: Limit of all files together, current downloads included: a process waits while the downloads of
            others leave no space. ``None``: no limit.

    Raises:
        ConfigError: ``max_bytes`` is not a positive number.
        DataError: The folder cannot be made.
    """

    def __init__(self, folder: str, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ConfigError(f'cache_bytes is {max_bytes!r}, expected a positive number of bytes or None')
        self.folder, self.max_bytes = Path(folder), max_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f'cache_dir {folder!r} cannot be made ({error.strerror}); choose another') from error

    def read_pieces(self, store: Store, pieces: list[Piece], sizes: dict[str, int]) -> list[bytes]:
        """Return pieces of archives, each archive fetched first if it is not here.

        Args:
            store: Where the archives come from.
            pieces: What to read.
            sizes: Bytes of each archive.

        Raises:
            DataError: An archive is missing, of another size or larger than the bound, the disk is full, or the folder
                belongs to another user.
        """
        contents: list[bytes] = []
        opened: dict[str, int] = {}
        try:
            for piece in pieces:
                if piece.name not in opened:
                    try:
                        opened[piece.name] = self._open(store, piece.name, sizes[piece.name])
                    except PermissionError as error:
                        raise DataError(
                            f'cache_dir {str(self.folder)!r} or a file in it belongs to another user '
                            f'({error.strerror}); choose a folder of your own'
                        ) from error
                contents.append(os.pread(opened[piece.name], piece.end - piece.start, piece.start))
                if len(contents[-1]) != piece.end - piece.start:
                    raise DataError(
                        f'{store.address(piece.name)} ends before byte {piece.end}; the index does not belong to it'
                    )
        finally:
            for handle in opened.values():
                os.close(handle)
        return contents

    def _open(self, store: Store, name: str, size: int) -> int:
        stem = hashlib.sha256(f'{store.root}\n{name}\n{size}'.encode(errors='surrogateescape')).hexdigest()[:16]
        target = self.folder / f'{stem}.tar'
        while True:
            try:
                handle = os.open(target, os.O_RDONLY)
            except FileNotFoundError:
                self._fetch(store, name, size, target)
                continue  # it may have been removed again
            os.utime(handle)  # read just now
            return handle

    def _fetch(self, store: Store, name: str, size: int, target: Path) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            raise DataError(f'{store.address(name)} has {size} bytes, more than cache_bytes={self.max_bytes}; raise it')
        with FileLock(_lock_of(target)):
            if target.exists():
                return
            part = target.with_name(f'.{target.stem}.{size}.part')
            try:
                self._reserve(size, part)
                store.fetch(name, part)
                if part.stat().st_size != size:
                    raise DataError(
                        f'{store.address(name)} has {part.stat().st_size} bytes, expected {size}; make the index again'
                    )
                os.replace(part, target)
            except PermissionError:
                raise
            except OSError as error:
                raise DataError(
                    f'{store.address(name)} cannot be kept in cache_dir {str(self.folder)!r} '
                    f'({error.strerror or error}); free space, lower cache_bytes or choose another folder'
                ) from error
            finally:
                part.unlink(missing_ok=True)

    def _reserve(self, size: int, part: Path) -> None:
        """Reserve space with the file ``part``; wait for downloads of others, which do not need this lock to end."""
        while True:
            with FileLock(self.folder / '.room.lock'):
                if self._make_room(size, part):
                    part.touch()  # counts with the size in its name from now on
                    return
            time.sleep(_PATIENCE)

    def _make_room(self, size: int, own: Path) -> bool:
        """Remove whole files until ``size`` more bytes fit; ``False`` if the downloads of others leave no space."""
        if self.max_bytes is None:
            return True
        taken = size
        for part in self.folder.glob('.*.part'):
            if part != own and not self._is_stale(part):
                taken += int(part.name.split('.')[2])
        if taken > self.max_bytes:
            return False
        kept = []
        for file in self.folder.glob('*.tar'):
            try:
                state = file.stat()
            except FileNotFoundError:
                continue
            kept.append((state.st_mtime_ns, state.st_size, file))
        taken += sum(bytes_ for _, bytes_, _ in kept)
        for _, bytes_, file in sorted(kept):
            if taken <= self.max_bytes:
                break
            file.unlink(missing_ok=True)
            taken -= bytes_
        return True

    def _is_stale(self, part: Path) -> bool:
        """Remove the file of a killed process, whose lock is free."""
        try:
            with FileLock(_lock_of(self.folder / f'{part.name.split(".")[1]}.tar'), timeout=0):
                part.unlink(missing_ok=True)
        except Timeout:
            return False
        return True


def _lock_of(target: Path) -> str:
    return str(target.with_name(f'.{target.stem}.lock'))
