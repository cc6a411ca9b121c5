"""A destination folder of a long-running tool: resumable after a kill, described by a manifest."""

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from torch.utils.data import DataLoader

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import is_disk_full, read_json, remove_unfinished, write_json
from mmselfsup_graft.version import __version__

from .manifest import MANIFEST_NAME

_AGAIN = 'remove the folder and start again'


class Destination:
    """The folder, for one process at a time; a context manager.

    Its manifest is written at the beginning, with ``complete`` false, and at the end: settings, versions and whatever
    the tool counts.

    Args:
        folder: Created if missing; must be empty, or started by the same tool with the same settings.
        settings: Settings that determine the content.

    Raises:
        DataError: The folder cannot be written, holds something else, was started with other settings or is in use.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, Any]) -> None:
        self.folder, self.settings = Path(folder), json.loads(json.dumps(settings))
        self._lock = FileLock(self.folder / '.lock', timeout=0)

    def __enter__(self) -> 'Destination':
        with self.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout as error:
                raise DataError(f'{self.folder} is being filled by another process; wait for it or stop it') from error
        try:
            self._check()
            remove_unfinished(self.folder)
            if not (self.folder / MANIFEST_NAME).exists():
                self.finish({}, complete=False)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _check(self) -> None:
        path = self.folder / MANIFEST_NAME
        if not path.exists():
            if any(not entry.name.startswith('.') for entry in self.folder.iterdir()):
                raise DataError(f'{self.folder} is not empty and holds no {MANIFEST_NAME}; choose an empty folder')
            return
        old = read_json(path, _AGAIN, ('settings',), most=None)['settings']
        if not isinstance(old, dict):
            raise DataError(f"{str(path)!r} is damaged: 'settings' is not an object; {_AGAIN}")
        for name in dict.fromkeys([*self.settings, *old]):
            if old.get(name) != self.settings.get(name):
                raise DataError(
                    f'{self.folder} was started with {name} = {old.get(name)!r}, now {self.settings.get(name)!r}; '
                    'choose another folder, or remove this one to start again'
                )

    @contextmanager
    def writing(self, path: str | os.PathLike) -> Iterator[None]:
        """Convert the errors of writing into one message.

        Raises:
            DataError: The disk is full, the folder may not be written …
        """
        try:
            yield
        except OSError as error:
            reason = 'the disk is full' if is_disk_full(error) else error.strerror or error
            raise DataError(
                f'{os.fspath(path)} cannot be written ({reason}); free space, check the permissions or choose another '
                'folder, then run the command again to continue'
            ) from error

    @contextmanager
    def file(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file below the folder; it appears under its name only when it is whole.

        Its temporary name is always the same, so files of a killed process are overwritten. Unlike ``whole_file`` it
        does not sync to the disk, which would dominate the time for a million files.

        Raises:
            DataError: It cannot be written.
        """
        target = self.folder / name
        part = target.with_name(f'.{target.name}.part')
        with self.writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(part, 'wb') as file:
                    yield file
                os.replace(part, target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def finish(self, content: dict[str, Any], complete: bool = True) -> dict[str, Any]:
        """Write the manifest and return it."""
        versions = {
            'mmselfsup_graft': __version__,
            'python': platform.python_version(),
            'pillow': PIL.__version__,
            'numpy': np.__version__,
        }
        manifest = {'settings': self.settings, 'versions': versions, 'complete': complete, **content}
        path = self.folder / MANIFEST_NAME
        with self.writing(path):
            write_json(path, manifest)
        return manifest


def check_jobs(jobs: int) -> int:
    """Return the number of processes.

    Raises:
        ConfigError: It is below 1.
    """
    if jobs < 1:
        raise ConfigError(f'jobs is {jobs}, expected a number of processes of at least 1')
    return jobs


class _Work(torch.utils.data.Dataset):
    def __init__(self, work: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self.work, self.items = work, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.work(self.items[number])


def map_in_processes(work: Callable[[Any], Any], items: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Yield ``work(item)`` of every item in order, made by several processes (this one for ``jobs=1``).

    The processes are torch's data-loading workers: they end with their parent process.
    """
    if not items:
        return
    workers = 0 if jobs == 1 else min(jobs, len(items))
    generator = torch.Generator().manual_seed(0)  # keeps the loader from using the global generator
    yield from DataLoader(
        _Work(work, items), batch_size=None, num_workers=workers, collate_fn=_same, generator=generator
    )


def _same(value: Any) -> Any:
    return value
