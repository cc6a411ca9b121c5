"""What the content of a download must be: digits of hashes, those published and those kept in the lock file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from mmselfsup_graft.utils.files import open_regular

_PIECE = 1 << 20
_FULL = 64


@dataclass(frozen=True)
class Digests:
    """Hashes of a file, in hexadecimal digits, and its size in bytes; ``md5`` is empty if it was not asked for."""

    sha256: str
    md5: str
    size: int


def digests(path: Path, with_md5: bool = False) -> Digests:
    """Hashes of a file, which is read once."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with open_regular(path) as file:
        while piece := file.read(_PIECE):
            sha256.update(piece)
            if with_md5:
                md5.update(piece)
            size += len(piece)
    return Digests(sha256.hexdigest(), md5.hexdigest() if with_md5 else '', size)


@dataclass(frozen=True)
class Expected:
    """What is known of a file's content.

    Args:
        sha256: SHA-256 that is published, or its first digits; None if there is none.
        md5: MD5 likewise.
        locked: SHA-256 kept from an earlier download.
        lock: The file that keeps it, for messages.
    """

    sha256: str | None
    md5: str | None
    locked: str | None
    lock: Path

    @property
    def is_known(self) -> bool:
        """Whether anything is known."""
        return bool(self.sha256 or self.md5 or self.locked)

    @property
    def is_complete(self) -> bool:
        """Whether the whole SHA-256 is known, so that nothing needs to be kept."""
        return bool(self.locked) or len(self.sha256 or '') == _FULL

    def digests(self, path: Path) -> Digests:
        """The hashes of a file that are compared, and its SHA-256."""
        return digests(path, with_md5=bool(self.md5))

    def problem(self, found: Digests) -> str:
        """How a content differs; empty if it agrees with all that is known."""
        if self.sha256 and not found.sha256.startswith(self.sha256.lower()):
            return f'has SHA-256 {found.sha256[: len(self.sha256)]}, expected {self.sha256}'
        if self.md5 and not found.md5.startswith(self.md5.lower()):
            return f'has MD5 {found.md5[: len(self.md5)]}, expected {self.md5}'
        if self.locked and found.sha256 != self.locked:
            return (
                f'has SHA-256 {found.sha256}, but an earlier download had {self.locked} ({self.lock}; remove the entry '
                'only if the publisher says that the file was replaced)'
            )
        return ''

    def matches(self, path: Path) -> bool:
        """Whether a file is known to be the right one."""
        return self.is_known and not self.problem(self.digests(path))
