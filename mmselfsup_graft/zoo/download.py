"""Downloading weights: resumed where it was cut, checked by hash, from a mirror, or not at all."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

import torch
from filelock import FileLock

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.utils.files import open_regular, why_not_regular

from .http_fetch import Limits, fetch, shown
from .part_file import append_to, size_of

_PIECE = 1 << 20
_MAX_NAME = 200  # bytes; file systems take 255, and a lock and a part get longer names
_HASH = re.compile(r'[0-9a-fA-F]{8,64}')


@dataclass(frozen=True)
class Weights:
    """A file of weights somewhere else.

    Args:
        url: Where it lies: ``http(s)://`` or ``file://``.
        sha256: Hash of its content, or the first digits of it (at least 8). Eight digits tell a damaged file from a
            whole one; only all 64 tell a forged one.
    """

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """Last part of the address.

        Raises:
            CheckpointError: The address is malformed, or this cannot be the name of a file in a folder.
        """
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


def weights_folder() -> Path:
    """Where downloads are kept: ``GRAFT_WEIGHTS``, or a folder beside torch hub's."""
    return Path(os.environ.get('GRAFT_WEIGHTS') or Path(torch.hub.get_dir()) / 'mmselfsup_graft')


def download(
    weights: Weights,
    folder: str | os.PathLike | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
    limits: Limits | None = None,
) -> Path:
    """Get a file of weights, from the folder where downloads are kept if it is there.

    Args:
        weights: What is wanted.
        folder: Where downloads are kept; None is :func:`weights_folder`.
        mirror: Folder, or address of one, in which the file of the same name is looked for instead; None is the
            environment's ``GRAFT_MIRROR``, if set.
        offline: Never open a connection; None is whether the environment's ``GRAFT_OFFLINE`` is set to 1.
        limits: Of attempts, time and size.

    Returns:
        The file, whose hash was checked.

    Raises:
        CheckpointError: If it cannot be had, or its content is not what was expected. What was downloaded so far is
            kept beside it for the next call, except where its hash is wrong or it is too large.
        DiskFullError: The disk is full. What was downloaded so far is kept.
    """
    if not _HASH.fullmatch(weights.sha256):
        raise CheckpointError(f'{weights.sha256!r} is not a SHA-256, or the first 8 or more of its 64 digits')
    target = Path(folder or weights_folder()) / weights.filename
    mirror = mirror if mirror is not None else os.environ.get('GRAFT_MIRROR') or None
    offline = _is_offline() if offline is None else offline
    if _is_there(target, weights):  # also in a folder that may only be read
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f'.{target.name}.lock'))  # several processes may want it at once
        lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f'{target.parent} cannot be written ({error.strerror or error}); choose another folder: GRAFT_WEIGHTS'
        ) from error
    try:
        if not _is_there(target, weights):
            _get(weights, target, mirror, offline, limits or Limits())
    finally:
        lock.release()
    return target


def _is_offline() -> bool:
    """Whether the environment forbids connections.

    Raises:
        ConfigError: If ``GRAFT_OFFLINE`` has another value than 1 or 0.
    """
    value = os.environ.get('GRAFT_OFFLINE', '')
    if value not in ('', '0', '1'):
        raise ConfigError(f'GRAFT_OFFLINE is {value!r}, expected 1 (never open a connection) or 0')
    return value == '1'


def _is_there(target: Path, weights: Weights) -> bool:
    reason = why_not_regular(target)
    if reason is None:
        return _matches(target, weights)
    if os.path.lexists(target):
        raise CheckpointError(f'{target} {reason}, expected a file or nothing; remove it')
    return False


def _get(weights: Weights, target: Path, mirror: str | None, offline: bool, limits: Limits) -> None:
    source = _in_mirror(mirror, weights.filename) if mirror else weights.url
    local = _local_path(source)
    if offline and local is None:
        raise CheckpointError(f'{target} is not there, and offline mode forbids to download {shown(source)}')
    part = target.with_name(f'{target.name}.part')
    if local is not None:
        _copy(local, part, weights, limits)
    else:
        is_rest = size_of(part) > 0
        fetch(source, part, limits, lambda: _matches(part, weights))
        if is_rest and not _matches(part, weights):  # the rest of another file; once more from the start
            part.unlink()
            fetch(source, part, limits, lambda: _matches(part, weights))
    if not _matches(part, weights):
        found = file_sha256(part)
        part.unlink()
        raise CheckpointError(
            f'{shown(source)} has SHA-256 {found[: len(weights.sha256)]}, expected {weights.sha256}; it was not kept, '
            'try again or get it some other way'
        )
    os.replace(part, target)


def _copy(local: Path, part: Path, weights: Weights, limits: Limits) -> None:
    try:
        source = open_regular(local)
    except OSError as error:
        reason = why_not_regular(local) or f'cannot be read ({error.strerror})'
        raise CheckpointError(
            f'{local} {reason}; check the mirror, or get {shown(weights.url)} some other way'
        ) from error
    with source, append_to(part, 0) as write:
        size = 0
        while piece := source.read(_PIECE):
            size += len(piece)
            if size > limits.max_bytes:
                raise CheckpointError(f'{local} is larger than the {limits.max_bytes} bytes that are taken')
            write(piece)


def _in_mirror(mirror: str, filename: str) -> str:
    local = _local_path(mirror)
    return str(local / filename) if local is not None else f'{mirror.rstrip("/")}/{quote(filename)}'


def _matches(path: Path, weights: Weights) -> bool:
    return file_sha256(path).startswith(weights.sha256.lower())


def _local_path(source: str) -> Path | None:
    """The path of a local file or folder; None for an address of HTTP.

    Raises:
        CheckpointError: It is another kind of address.
    """
    try:
        parts = urlsplit(source)
        is_http = parts.scheme in ('http', 'https')
        if is_http and parts.hostname and (parts.port is None or parts.port):
            return None
    except ValueError as error:
        raise CheckpointError(f'{source!r} is not an address ({error})') from error
    if parts.scheme == 'file' and parts.netloc in ('', 'localhost'):
        return Path(url2pathname(parts.path))
    if is_http or '://' in source:
        raise CheckpointError(f'{shown(source)!r}: expected an address http(s)://HOST/..., file:///... or a path')
    return Path(source)
