"""A file somewhere else: its address, its published hashes and the name that it gets."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mmselfsup_graft.errors import CheckpointError

from .http_fetch import shown

_MAX_NAME = 200  # bytes; file systems take 255, and a lock and a part get longer names


@dataclass(frozen=True)
class Weights:
    """A file somewhere else: weights, or a list of images.

    Args:
        url: Where it lies: ``http(s)://`` or ``file://``; None if there is only a page for people.
        sha256: Hash of its content, or the first digits of it (at least 8); None if nobody states it. Eight digits tell
            a damaged file from a whole one; only all 64 tell a forged one.
        md5: MD5 likewise, at least 6 digits. It tells a damaged file and no forged one.
        page: Page for people.
        name: What messages and commands call it.
    """

    url: str | None
    sha256: str | None
    md5: str | None = None
    page: str = ''
    name: str = ''

    @property
    def origin(self) -> str:
        """Address or page, for messages."""
        return shown(self.url or self.page)

    @property
    def filename(self) -> str:
        """Name in a folder: the last part of the address, or what messages call it and ``.pth``.

        Raises:
            CheckpointError: The address is malformed, or this cannot be the name of a file in a folder.
        """
        if self.url is None:
            return f'{self.name}.pth'
        try:
            name = unquote(urlsplit(self.url).path.rpartition('/')[2], errors='strict')
        except ValueError as error:
            raise CheckpointError(f'{self.url!r} is not an address ({error})') from error
        is_plain = name.isprintable() and not name.startswith('.') and not set(name) & set('/\\')
        if not name or not is_plain or len(name.encode()) > _MAX_NAME:
            raise CheckpointError(
                f'{shown(self.url)!r} must end in the name of a file: without control characters, slashes and a dot at '
                f'the front, of at most {_MAX_NAME} bytes; it ends in {name[:_MAX_NAME]!r}'
            )
        return name
