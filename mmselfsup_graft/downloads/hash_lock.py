"""The lock file: SHA-256 of files whose publisher states none, or only its first digits, as first downloaded."""

import re
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.utils.files import read_json, write_json

_SHA256 = re.compile(r'[0-9a-f]{64}')


@dataclass(frozen=True)
class HashLock:
    """The lock file of a folder of downloads.

    It is JSON: name of a file in the folder -> ``sha256``, ``size`` in bytes, and ``source`` (where it came from).

    Args:
        path: The lock file.
    """

    path: Path

    @classmethod
    def of_folder(cls, folder: Path) -> 'HashLock':
        """That of a folder of downloads, ``zoo-lock.json`` in it."""
        return cls(folder / 'zoo-lock.json')

    def sha256_of(self, filename: str) -> str | None:
        """The SHA-256 that was kept for a file; None if there is none.

        Raises:
            CheckpointError: If the entry is damaged.
            DataError: If the lock file is damaged.
        """
        entry = self._read().get(filename)
        if entry is None:
            return None
        digits = entry.get('sha256') if isinstance(entry, dict) else None
        if not isinstance(digits, str) or not _SHA256.fullmatch(digits):
            raise CheckpointError(f'{self.path}: the entry of {filename} has no SHA-256; remove it')
        return digits

    def keep(self, filename: str, sha256: str, size: int, source: str) -> None:
        """Add an entry. Processes that write at once wait for each other."""
        with FileLock(self.path.with_name(f'.{self.path.name}.lock')):
            entries = {**self._read(), filename: {'sha256': sha256, 'size': size, 'source': source}}
            write_json(self.path, dict(sorted(entries.items())))

    def _read(self) -> dict:
        if not self.path.exists():
            return {}
        content = read_json(self.path, 'repair it, or remove it to accept unknown hashes anew')
        if not isinstance(content, dict):
            raise CheckpointError(f'{self.path} is damaged: expected an object; repair or remove it')
        return content
